from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from space2vec.schemas import registry as registry_module
from space2vec.schemas import rubin
from space2vec.schemas.errors import ConfigError, PacketError, Reason, SchemaUnavailable
from space2vec.schemas.folder import FolderSchemas
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.registry import RegistrySchemas
from space2vec.schemas.rubin import InstalledRubinSchemas
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.writer_schema import writer_schema
from space2vec.schemas.writers import ChainedSchemas, writer_schemas

SCHEMA = {"type": "record", "name": "alert", "fields": [{"name": "candid", "type": "long"}]}


def unknown(schemas: Any, schema_id: int = 5) -> PacketError:
    with pytest.raises(PacketError) as refused:
        schemas.get(schema_id)
    return refused.value


class FakeRegistry(ThreadingHTTPServer):
    """A registry that answers what it is told and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str | None, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/schema-registry"


class Answer(BaseHTTPRequestHandler):
    server: FakeRegistry

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body: Any) -> None:
        path = self.path.removeprefix("/schema-registry")
        self.server.asked.append((path, self.headers["Authorization"], body))
        status, answer = self.server.answers.get(path, (404, {"error_code": 40403}))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", self.server.url + "/elsewhere")
        self.end_headers()
        self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.answers["/schemas/ids/1100"] = (200, {"schema": json.dumps(SCHEMA)})
        yield server
        server.shutdown()
        thread.join()


class TestRegistry:
    def test_asks_once_in_a_lifetime(self, registry: FakeRegistry, tmp_path: Path) -> None:
        schemas = RegistrySchemas(registry.url, cache_dir=tmp_path)
        writer = schemas.get(1100)
        assert writer.schema == SCHEMA
        assert schemas.get(1100) is writer
        again = RegistrySchemas(registry.url, cache_dir=tmp_path).get(1100)
        assert again.fingerprint == writer.fingerprint
        assert registry.asked == [("/schemas/ids/1100", None, None)]

    def test_registries_do_not_share_ids(self, registry: FakeRegistry, tmp_path: Path) -> None:
        RegistrySchemas(registry.url, cache_dir=tmp_path).get(1100)
        other = RegistrySchemas(registry.url.replace("127.0.0.1", "localhost"), cache_dir=tmp_path)
        other.get(1100)
        assert len(registry.asked) == 2

    def test_a_broken_file_is_fetched_anew(self, registry: FakeRegistry, tmp_path: Path) -> None:
        RegistrySchemas(registry.url, cache_dir=tmp_path).get(1100)
        (file,) = tmp_path.rglob("1100.avsc")
        file.write_text(file.read_text()[:20])
        assert RegistrySchemas(registry.url, cache_dir=tmp_path).get(1100).schema == SCHEMA
        assert json.loads(file.read_text()) == SCHEMA

    def test_a_folder_that_cannot_be_written_does_no_harm(
        self, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        assert RegistrySchemas(registry.url, cache_dir=tmp_path / "file").get(1100).schema == SCHEMA

    def test_default_folder_is_the_users(
        self, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        RegistrySchemas(registry.url).get(1100)
        (file,) = tmp_path.rglob("1100.avsc")
        assert file.parts[-4:-2] == ("space2vec", "schemas")

    def test_password(self, registry: FakeRegistry, tmp_path: Path) -> None:
        RegistrySchemas(registry.url, "me", "secret", cache_dir=tmp_path).get(1100)
        assert registry.asked[0][1] == "Basic " + base64.b64encode(b"me:secret").decode()

    def test_password_does_not_follow_redirects(self, registry: FakeRegistry, tmp_path: Path) -> None:
        registry.answers["/schemas/ids/7"] = (302, {})
        with pytest.raises(SchemaUnavailable, match="302"):
            RegistrySchemas(registry.url, "me", "secret", cache_dir=tmp_path).get(7)
        assert len(registry.asked) == 1

    def test_unknown_ids_are_not_asked_for_again_and_again(
        self, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        schemas = RegistrySchemas(registry.url, cache_dir=tmp_path)
        for _ in range(3):
            assert unknown(schemas).reason is Reason.UNKNOWN_SCHEMA
        assert len(registry.asked) == 1
        monkeypatch.setattr(registry_module, "_UNKNOWN_FOR_S", 0.0)
        later = RegistrySchemas(registry.url, cache_dir=tmp_path)
        unknown(later)
        registry.answers["/schemas/ids/5"] = (200, {"schema": json.dumps(SCHEMA)})
        assert later.get(5).schema == SCHEMA

    @pytest.mark.parametrize(
        "answer", [(500, {}), (401, {}), (403, {}), (429, {}), (200, b"<html>"), (200, b"[]"), (200, b"")]
    )
    def test_answers_that_are_none(
        self, registry: FakeRegistry, tmp_path: Path, answer: tuple[int, Any]
    ) -> None:
        registry.answers["/schemas/ids/5"] = answer
        with pytest.raises(SchemaUnavailable) as refused:
            RegistrySchemas(registry.url, "me", "secret", cache_dir=tmp_path).get(5)
        assert registry.url in str(refused.value)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize(
        "answer", [{"schema": "{}", "schemaType": "PROTOBUF"}, {"schema": "not json"}, {"id": 3}]
    )
    def test_schemas_that_are_none(self, registry: FakeRegistry, tmp_path: Path, answer: Any) -> None:
        registry.answers["/schemas/ids/5"] = (200, answer)
        assert unknown(RegistrySchemas(registry.url, cache_dir=tmp_path)).reason is Reason.BAD_SCHEMA

    def test_out_of_reach(self, registry: FakeRegistry, tmp_path: Path) -> None:
        url = registry.url
        registry.shutdown()
        registry.server_close()
        with pytest.raises(SchemaUnavailable, match="refused"):
            RegistrySchemas(url, cache_dir=tmp_path, timeout_s=2.0).get(5)

    def test_registers(self, registry: FakeRegistry, tmp_path: Path) -> None:
        registry.answers["/subjects/ztf-annotated-value/versions"] = (200, {"id": 17})
        schemas = RegistrySchemas(registry.url, cache_dir=tmp_path)
        assert schemas.register("ztf-annotated-value", writer_schema(SCHEMA)) == 17
        ((_, _, question),) = registry.asked
        assert json.loads(question["schema"]) == SCHEMA
        assert question["schemaType"] == "AVRO"

    def test_registering_refused(self, registry: FakeRegistry, tmp_path: Path) -> None:
        with pytest.raises(SchemaUnavailable, match="404"):
            RegistrySchemas(registry.url, cache_dir=tmp_path).register("x", writer_schema(SCHEMA))

    @pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8081", "ftp://host", "http://"])
    def test_refuses_other_urls(self, url: str) -> None:
        with pytest.raises(ConfigError, match="not an http"):
            RegistrySchemas(url)


class TestFolder:
    def test_reads_schemas_and_what_they_refer_to(self, tmp_path: Path) -> None:
        cutout = {"type": "record", "name": "cutout", "namespace": "mine", "fields": []}
        fields = [{"name": "a", "type": "mine.cutout"}, {"name": "b", "type": ["null", "mine.cutout"]}]
        (tmp_path / "5.avsc").write_text(json.dumps(SCHEMA | {"fields": fields}))
        (tmp_path / "mine.cutout.avsc").write_text(json.dumps(cutout))
        schemas = FolderSchemas(tmp_path)
        writer = schemas.get(5)
        assert [field["name"] for field in writer.schema["fields"]] == ["a", "b"]
        assert schemas.get(5) is writer

    def test_says_what_is_missing(self, tmp_path: Path) -> None:
        assert str(unknown(FolderSchemas(tmp_path))) == f"unknown_schema: no 5.avsc in {tmp_path}"

    @pytest.mark.parametrize(
        "text", ["", "{", '{"type": "record", "name": "a", "fields": [{"name": "b", "type": "c"}]}']
    )
    def test_names_the_broken_file(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "5.avsc").write_text(text)
        error = unknown(FolderSchemas(tmp_path))
        assert error.reason is Reason.BAD_SCHEMA
        assert "5.avsc" in error.detail

    def test_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no such folder"):
            FolderSchemas(tmp_path / "nowhere")


class TestRubin:
    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Lay out a distribution as lsst-alert-packet's is, whose code must not be imported."""
        package = tmp_path / "lsst" / "alert" / "packet"
        folder = package / "schema" / "11" / "0"
        folder.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('not to be imported')")
        source = {"type": "record", "name": "lsst.v11_0.diaSource", "fields": []}
        alert = SCHEMA | {
            "name": "lsst.v11_0.alert",
            "fields": [{"name": "s", "type": "lsst.v11_0.diaSource"}],
        }
        (folder / "lsst.v11_0.alert.avsc").write_text(json.dumps(alert))
        (folder / "lsst.v11_0.diaSource.avsc").write_text(json.dumps(source))
        monkeypatch.syspath_prepend(str(tmp_path))
        rubin._schema_root.cache_clear()
        yield
        rubin._schema_root.cache_clear()
        for name in ("lsst", "lsst.alert"):
            sys.modules.pop(name, None)

    @pytest.mark.usefixtures("installed")
    def test_finds_schemas_by_version(self) -> None:
        assert InstalledRubinSchemas.available()
        schemas = InstalledRubinSchemas()
        assert schemas.get(1100).schema["name"] == "lsst.v11_0.alert"
        assert str(unknown(schemas, 12345)) == "unknown_schema: lsst-alert-packet has no schema 123.45"


class TestChain:
    def source(self, answer: WriterSchema | Exception, asked: list[int] | None = None) -> Any:
        class Source:
            def get(self, schema_id: int) -> WriterSchema:
                if asked is not None:
                    asked.append(schema_id)
                if isinstance(answer, Exception):
                    raise answer
                return answer

        return Source()

    def test_asks_in_order(self) -> None:
        first, second = writer_schema(SCHEMA), writer_schema('"int"')
        none = self.source(PacketError(Reason.UNKNOWN_SCHEMA, "none here"))
        down = self.source(SchemaUnavailable("down"))
        assert ChainedSchemas([self.source(first), self.source(second)]).get(5) is first
        assert ChainedSchemas([none, self.source(second)]).get(5) is second
        assert ChainedSchemas([down, self.source(second)]).get(5) is second

    def test_one_that_could_not_answer_may_have_it(self) -> None:
        none = self.source(PacketError(Reason.UNKNOWN_SCHEMA, "none here"))
        with pytest.raises(SchemaUnavailable):
            ChainedSchemas([self.source(SchemaUnavailable("down")), none]).get(5)

    def test_asks_once_for_a_schema_that_every_packet_names(self) -> None:
        asked: list[int] = []
        none = self.source(PacketError(Reason.UNKNOWN_SCHEMA, "none here"), asked)
        known = writer_schema(SCHEMA)
        chain = ChainedSchemas([none, self.source(known)])
        assert [chain.get(5) for _ in range(3)] == [known] * 3
        assert asked == [5]
        for _ in range(2):
            unknown(ChainedSchemas([none]), 6)
        assert asked == [5, 6, 6], "what is not there yet may come"

    def test_one_that_is_back_is_asked_before_those_behind_it(self) -> None:
        first, second = writer_schema(SCHEMA), writer_schema(SCHEMA)
        answers: list[WriterSchema | Exception] = [
            first,
            SchemaUnavailable("down"),
            SchemaUnavailable("down"),
        ]
        returning = SimpleNamespace(get=lambda _: self.source(answers.pop()).get(5))
        chain = ChainedSchemas([returning, self.source(second)])
        assert [chain.get(5) for _ in range(4)] == [second, second, first, first]

    def test_says_whom_it_asked(self) -> None:
        none = self.source(PacketError(Reason.UNKNOWN_SCHEMA, "none here"))
        assert (
            str(unknown(ChainedSchemas([none, none]))) == "unknown_schema: schema id 5: none here; none here"
        )
        assert "to ask" in str(unknown(ChainedSchemas([])))

    def test_a_broken_schema_is_not_looked_for_elsewhere(self) -> None:
        broken = self.source(PacketError(Reason.BAD_SCHEMA, "broken"))
        chain = ChainedSchemas([broken, self.source(writer_schema(SCHEMA))])
        assert unknown(chain).reason is Reason.BAD_SCHEMA

    def test_built_from_settings(self, registry: FakeRegistry, tmp_path: Path) -> None:
        folder, cache = tmp_path / "folder", tmp_path / "cache"
        folder.mkdir()
        (folder / "5.avsc").write_text(json.dumps(SCHEMA))
        schemas = writer_schemas(
            SchemaSettings(
                registry_url=registry.url,
                registry_user="me",
                registry_password="secret",
                folder=folder,
                cache=cache,
            )
        )
        assert schemas.get(5).schema == SCHEMA
        assert not registry.asked
        assert schemas.get(1100).schema == SCHEMA
        assert registry.asked[0][1] == "Basic bWU6c2VjcmV0"
        assert "secret" not in str(unknown(schemas, 6))
