"""Archives as shards, and their packets one after the other: damage is told, never met with silence."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import Mapping
from pathlib import Path

import fastavro
import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.limits import Limits
from space2vec.schemas.reader import PacketReader
from space2vec.stream import replay_archives
from space2vec.stream.replay_archives import Archive, find_archives, verify
from space2vec.stream.replay_members import ArchiveReader, inflated
from space2vec.stream.replay_tar import tar_members

LONG = "n" * 300


def packets(count: int, size: int = 700) -> dict[str, bytes]:
    return {f"{i}.avro": bytes([65 + i % 26]) * (size + i) for i in range(count)}


def tar_of(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), 1_700_000_000
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def read_all(archive: Archive, start: int = 0) -> tuple[dict[int, tuple[str, bytes]], list[str]]:
    reader = ArchiveReader(archive)
    found = {member.number: (member.name, member.packet) for member in reader.members(start)}
    return found, reader.faults


def the_archive(path: Path, content: bytes) -> Archive:
    path.write_bytes(content)
    (archive,) = find_archives([str(path)])
    return archive


# -- what the user names -----------------------------------------------------------------------------------------


def test_folders_globs_and_files_become_shards_each_once(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    for name, content in packets(3).items():
        (tmp_path / "night" / name).write_bytes(content)
    (tmp_path / "night" / "notes.txt").write_text("not an alert")
    (tmp_path / "night" / "a.tar.gz").write_bytes(tar_of(packets(2), mode="w:gz"))
    (tmp_path / "b.tar").write_bytes(tar_of(packets(4)))
    archives = find_archives([str(tmp_path / "night"), str(tmp_path / "*.tar"), str(tmp_path / "b.tar")])
    assert [(a.name, len(a.files)) for a in archives] == [("a.tar.gz", 1), ("night", 3), ("b.tar", 1)]
    assert [len(read_all(a)[0]) for a in archives] == [2, 3, 4]
    assert archives == find_archives([str(tmp_path / "night"), str(tmp_path / "b.tar")])


def test_any_fsspec_url_will_do() -> None:
    with fsspec.open("memory://nights/x.tar.gz", "wb") as file:
        file.write(tar_of(packets(5), mode="w:gz"))
    (archive,) = find_archives(["memory://nights/x.tar.gz"])
    found, faults = read_all(archive)
    assert ([content for _, content in found.values()], faults) == (list(packets(5).values()), [])


@pytest.mark.parametrize("name", ["nothing.tar", "none*.tar", "nosuch://x"])
def test_what_leads_to_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.tar|no alerts|nosuch"):
        find_archives([name if "://" in name else str(tmp_path / name)])


def test_the_digest_tells_archives_of_one_name_apart(tmp_path: Path) -> None:
    first = the_archive(tmp_path / "n.tar.gz", tar_of(packets(3), mode="w:gz"))
    second = the_archive(tmp_path / "n.tar.gz", tar_of(packets(4), mode="w:gz"))
    assert first.name == second.name
    assert first.shard != second.shard


def test_md5_sums(tmp_path: Path) -> None:
    content = tar_of(packets(3))
    archive = the_archive(tmp_path / "n.tar", content)
    md5 = hashlib.md5(content).hexdigest()
    sums = tmp_path / "MD5SUMS"
    sums.write_text(f"{'0' * 32}  other.tar\n{md5} *n.tar\n")
    verify(archive, str(sums))
    sums.write_text(f"{'0' * 32}  n.tar\n")
    with pytest.raises(ConfigError, match=r"n\.tar: MD5 is .* says 0000"):
        verify(archive, str(sums))
    sums.write_text(f"{md5}  other.tar\n")
    with pytest.raises(ConfigError, match="not in"):
        verify(archive, str(sums))


# -- tar ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_every_kind_of_tar_is_read_from_any_packet_on(tmp_path: Path, form: int, mode: str) -> None:
    files = {"folder/readme.txt": b"hello", **packets(7)}
    if form != tarfile.USTAR_FORMAT:
        files[f"{LONG}.avro"] = b"long"
    archive = the_archive(tmp_path / f"n.tar{'.gz' if mode == 'w:gz' else ''}", tar_of(files, form, mode))
    wanted = [(name, content) for name, content in files.items() if name.endswith(".avro")]
    for start in (0, 3, len(wanted)):
        found, faults = read_all(archive, start)
        assert found == {number: wanted[number] for number in range(start, len(wanted))}
        assert faults == []


@given(st.integers(0, 8 * 1536))
def test_a_tar_cut_anywhere_gives_every_whole_member_and_says_so(cut: int) -> None:
    whole = tar_of(packets(6), tarfile.USTAR_FORMAT)
    end = whole.index(b"F" * 705) + 1024  # the last member with its padding
    faults: list[str] = []
    found = []
    try:
        for member in tar_members(io.BytesIO(whole[:cut]), faults.append):
            content = member.read(member.size)
            member.skip()
            found.append(content)
    except EOFError as error:
        faults.append(str(error))
    assert found == list(packets(6).values())[: min(cut, end) // 1536]
    assert bool(faults) == (cut < end + 512)


def test_a_damaged_header_costs_its_own_member_only(tmp_path: Path) -> None:
    damaged = bytearray(tar_of(packets(6), tarfile.USTAR_FORMAT))
    damaged[2 * 1536 + 5] ^= 0xFF
    damaged[4 * 1536 : 4 * 1536 + 512] = bytes(512)
    found, faults = read_all(the_archive(tmp_path / "n.tar", bytes(damaged)))
    names = list(packets(6))
    assert [name for name, _ in found.values()] == [names[i] for i in (0, 1, 3, 5)]
    assert len(faults) == 2
    assert all("damaged tar header" in fault for fault in faults)


def test_a_gzip_cut_within_a_member_gives_what_came_before(tmp_path: Path) -> None:
    noise = random.Random(1)
    files = {f"{i}.avro": noise.randbytes(5000) for i in range(20)}
    whole = tar_of(files, mode="w:gz")
    archive = the_archive(tmp_path / "n.tar.gz", whole[: len(whole) * 2 // 3])
    found, faults = read_all(archive)
    assert 10 <= len(found) <= 13
    assert [content for _, content in found.values()] == list(files.values())[: len(found)]
    (fault,) = faults
    assert "what came before is read" in fault


def test_a_packet_too_large_is_not_read_whole(tmp_path: Path) -> None:
    archive = the_archive(tmp_path / "n.tar", tar_of({"a.avro": bytes(3 << 20), "b.avro": b"b"}))
    reader = ArchiveReader(archive, Limits(packet_bytes=2 << 20))
    assert [len(member.packet) for member in reader.members()] == [1 << 20, 1]


# -- gzip and large containers -----------------------------------------------------------------------------------


def test_packets_are_gunzipped_or_kept_as_found() -> None:
    packet = b"Obj\x01 and so on" * 100
    zipped = gzip.compress(packet)
    assert inflated(zipped, 1 << 20) == packet
    assert inflated(packet, 1 << 20) == packet
    for unusable in (zipped[:-9], zipped[:20] + b"junk" + zipped[24:]):
        assert inflated(unusable, 1 << 20) == unusable
    assert inflated(zipped, 100) == zipped


def test_a_large_container_is_read_block_by_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_alerts
) -> None:
    reader = PacketReader()
    alerts = [record for sent in make_alerts(ztf=5) for record in fastavro.reader(io.BytesIO(sent.packet))]
    schema = fastavro.reader(io.BytesIO(make_alerts(ztf=1)[0].packet)).writer_schema
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema, alerts, codec="deflate", sync_interval=1)
    monkeypatch.setattr(replay_archives, "LARGE_BYTES", 1000)
    archive = the_archive(tmp_path / "many.avro", buffer.getvalue())
    found, faults = read_all(archive)
    assert (len(found), faults) == (5, [])
    ids = [alert.alert_id for _, packet in found.values() for alert in reader.read(packet)]  # type: ignore[union-attr]
    assert ids == [alert["candid"] for alert in alerts]
    cut, faults = read_all(the_archive(tmp_path / "cut.avro", buffer.getvalue()[:-40]))
    assert (len(cut), len(faults)) == (4, 1)
