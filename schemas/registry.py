"""Writer schemas from a Confluent schema registry, kept on disk for ever.

Source: Confluent Schema Registry API, ``GET /schemas/ids/{id}`` and ``POST /subjects/{subject}/versions``.
Ids are immutable, so what was fetched once is never asked for again, in this process or the next.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import logging
import os
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from space2vec.schemas.errors import ConfigError, PacketError, Reason, SchemaUnavailable
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.writer_schema import writer_schema

_LARGEST_ANSWER = 4 << 20
_UNKNOWN_FOR_S = 60.0
"""How long an id that the registry does not know is taken to stay unknown."""
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"

_log = logging.getLogger(__name__)


class RegistrySchemas:
    """Writer schemas from a registry.

    Parameters
    ----------
    url : str
        Of the registry, with its path if it has one: ``https://host/schema-registry``.
    user, password : str, optional
        For HTTP basic authentication; anonymous without a user.
    cache_dir : Path, optional
        Where schemas are kept; by default the user's cache folder. Each registry has a folder of its own
        in it, as ids are unique only within one.
    timeout_s : float
        For one request.

    Raises
    ------
    ConfigError
        If the URL is not http or https.
    """

    def __init__(
        self,
        url: str,
        user: str | None = None,
        password: str | None = None,
        cache_dir: Path | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"schema registry {url!r}: not an http(s) URL")
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"Accept": _CONTENT_TYPE, "Content-Type": _CONTENT_TYPE}
        if user:
            token = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        # A redirect would carry the password to wherever it points.
        self._opener = urllib.request.build_opener(_NoRedirects)
        digest = hashlib.sha256(self._url.encode()).hexdigest()[:8]
        self._folder = (cache_dir or _user_cache()) / f"{parts.hostname}-{digest}"
        self._known: dict[int, WriterSchema] = {}
        self._unknown_until: dict[int, float] = {}

    def get(self, schema_id: int) -> WriterSchema:
        """Give the schema of an id: from memory, from disk, or from the registry.

        Raises
        ------
        PacketError
            ``UNKNOWN_SCHEMA`` if the registry does not know the id, ``BAD_SCHEMA`` if what it gives cannot
            be parsed.
        SchemaUnavailable
            If the registry cannot be reached, or does not answer as one.
        """
        if schema_id in self._known:
            return self._known[schema_id]
        if time.monotonic() < self._unknown_until.get(schema_id, 0.0):
            raise self._unknown(schema_id)
        path = self._folder / f"{schema_id}.avsc"
        try:
            writer = writer_schema(path.read_bytes())
        except (OSError, PacketError):
            text = self._fetch(schema_id)
            writer = writer_schema(text)
            _keep(path, text)
        self._known[schema_id] = writer
        return writer

    def register(self, subject: str, writer: WriterSchema) -> int:
        """Register a schema under a subject, or find it there; its id comes back.

        Raises
        ------
        SchemaUnavailable
            If the registry cannot be reached, or refuses.
        """
        question = {"schema": json.dumps(writer.schema), "schemaType": "AVRO"}
        answer = self._ask(f"/subjects/{quote(subject, safe='')}/versions", question)
        if answer is None or not isinstance(answer.get("id"), int):
            raise SchemaUnavailable(f"schema registry {self._url}: no id for subject {subject}")
        return int(answer["id"])

    def _fetch(self, schema_id: int) -> str:
        answer = self._ask(f"/schemas/ids/{schema_id}")
        if answer is None:
            if len(self._unknown_until) > 10_000:
                self._unknown_until.clear()
            self._unknown_until[schema_id] = time.monotonic() + _UNKNOWN_FOR_S
            raise self._unknown(schema_id)
        kind = answer.get("schemaType", "AVRO")
        if kind != "AVRO" or not isinstance(answer.get("schema"), str):
            raise PacketError(Reason.BAD_SCHEMA, f"schema id {schema_id} is {kind}, not AVRO")
        return str(answer["schema"])

    def _unknown(self, schema_id: int) -> PacketError:
        return PacketError(Reason.UNKNOWN_SCHEMA, f"schema registry {self._url} has no id {schema_id}")

    def _ask(self, path: str, question: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Send one request; ``None`` for "not found"."""
        body = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(self._url + path, body, self._headers)  # noqa: S310 - see __init__
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer = json.loads(response.read(_LARGEST_ANSWER))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.NOT_FOUND and question is None:
                return None
            raise SchemaUnavailable(f"schema registry {self._url}: {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            raise SchemaUnavailable(f"schema registry {self._url}: {error}") from None
        if not isinstance(answer, dict):
            raise SchemaUnavailable(f"schema registry {self._url}: answers {type(answer).__name__}")
        return answer


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _user_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "space2vec" / "schemas"


def _keep(path: Path, text: str) -> None:
    """Write a schema to disk, whole or not at all: several workers may share the folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).replace(path)
    except OSError as error:
        _log.warning("schema not kept on disk: %s", error)
