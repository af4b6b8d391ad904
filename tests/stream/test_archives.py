from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from space2vec.schemas.errors import ConfigError, Reason
from space2vec.stream.archives import find_files, read_files
from trial import tar_of


def test_a_folder_gives_its_packets_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.avro", "a/z.avro", "a/y.avro.gz", "README.md", "night.tar.gz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = [str(path.relative_to(tmp_path)) for path in find_files([str(tmp_path)])]
    assert found == ["a/y.avro.gz", "a/z.avro", "b.avro", "night.tar.gz"]


def test_a_named_file_is_taken_whatever_its_suffix_and_once(tmp_path: Path) -> None:
    path = tmp_path / "message.bin"
    path.write_bytes(b"x")
    assert find_files([str(path), str(path), str(tmp_path / "*.bin")]) == [path]


def test_a_glob_that_the_shell_left_alone(tmp_path: Path) -> None:
    for name in ("1.avro", "2.avro", "3.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_files([str(tmp_path / "*.avro")])] == ["1.avro", "2.avro"]


def test_names_on_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "1.avro"
    path.write_bytes(b"x")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{path}\n\n"))
    assert find_files(["-"]) == [path]


def test_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        find_files([str(tmp_path / "nowhere")])


@pytest.mark.parametrize(("name", "mode"), [("n.tar", "w"), ("n.tar.gz", "w:gz"), ("n.tgz", "w:gz")])
def test_members_of_an_archive(tmp_path: Path, name: str, mode: str) -> None:
    members = {"1.avro": b"one", "sub/2.avro.gz": gzip.compress(b"two"), "truth.csv": b"no packet"}
    path = tar_of(tmp_path / name, members, mode)
    assert [(file.name, file.raw) for file in read_files([path])] == [
        (f"{path}!1.avro", b"one"),
        (f"{path}!sub/2.avro.gz", b"two"),
    ]


def test_a_damaged_archive_gives_what_came_before_and_then_a_fault(tmp_path: Path) -> None:
    import os

    path = tar_of(tmp_path / "n.tar.gz", {f"{i}.avro": os.urandom(5000) for i in range(40)})
    path.write_bytes(path.read_bytes()[:100_000])
    after = tmp_path / "whole.avro"
    after.write_bytes(b"whole")
    *members, fault, last = read_files([path, after])
    assert len(members) > 5
    assert all(file.fault is None and len(file.raw) == 5000 for file in members)
    assert fault.name == str(path)
    assert fault.fault is not None
    assert fault.fault.reason is Reason.DAMAGED_CONTAINER
    assert last.raw == b"whole"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", Reason.EMPTY),
        (gzip.compress(b"x" * 2000, mtime=0), Reason.TOO_LARGE),
        (b"x" * 2000, Reason.TOO_LARGE),
        (gzip.compress(b"some packet", mtime=0)[:-6], Reason.DAMAGED_CONTAINER),
        (b"\x1f\x8bnonsense", Reason.DAMAGED_CONTAINER),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(tmp_path: Path, content: bytes, reason: Reason) -> None:
    path = tmp_path / "1.avro"
    path.write_bytes(content)
    (file,) = read_files([path], limit=1000)
    assert file.fault is not None
    assert file.fault.reason is reason
    assert file.raw == b""


def test_an_unreadable_file_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder.avro"
    folder.mkdir()
    whole = tmp_path / "whole.avro"
    whole.write_bytes(b"whole")
    first, second = read_files([folder, whole])
    assert first.fault is not None
    assert "cannot be read" in first.fault.detail
    assert second.raw == b"whole"
