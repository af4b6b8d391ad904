"""Replaying into a folder: part files by night, each of a fixed range of the archive's packets.

Part files are cut by packet number alone, never by time, and are named after their range. So a replay that is
killed and begun again writes the same files, byte for byte, as one that was left alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro

from space2vec.schemas.annotation_avro import our_schema, parsed_schema
from space2vec.schemas.container import compact_json, container_header
from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import Settings
from space2vec.schemas.varint import decode_long
from space2vec.stream.counts import Counts
from space2vec.stream.ledger import Ledger, night_of
from space2vec.stream.protocols import OutputRecord, Partition, Sink
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_manifest import (
    Manifest,
    Part,
    forget_manifest,
    locked,
    read_manifest,
    write_files,
)
from space2vec.stream.replay_source import PROVENANCE, ArchiveSource
from space2vec.stream.replay_standing import Standing, counted
from space2vec.workers.bundle import Bundle

PART_MEMBERS: Final = 4096
"""Packets whose answers one part holds."""
PART_BYTES: Final = 64 << 20
"""A part ends early where the rejected packets in it come to more than this."""
_ALERTS: Final = "alerts"
_REJECTED: Final = "rejected"
_NO_NIGHT: Final = "__HIVE_DEFAULT_PARTITION__"
"""What readers of partitioned folders take for null."""
_MJD_OF_1970: Final = 40587.0
_PREFIX: Final = len(container_header(compact_json(our_schema("classification"))))

Encode = Callable[[Sequence[Mapping[str, Any]], Mapping[str, str]], bytes]


@dataclass(frozen=True, slots=True)
class Format:
    """How part files are written: of classification records, and of rejected packets."""

    name: str
    suffix: str
    alerts: Encode
    rejected: Encode


class _Answer(NamedTuple):
    """One row to be written, of the packet with this number; ``size`` counts where a packet goes with it."""

    member: int
    row: dict[str, Any]
    rejected: bool
    size: int


class FolderDestination:
    """A folder on this machine, or on a file system that all of them share.

    Parameters
    ----------
    settings : Settings
        Of the pipeline.
    folder : Path
        Made if it is not there.
    form : Format
        Of the part files.
    bundle : Bundle
        What scores; a folder holds an archive's answers by one model.
    """

    def __init__(self, settings: Settings, folder: Path, form: Format, bundle: Bundle) -> None:
        sink = settings.sink.model_copy(
            update={"classifications": _ALERTS, "rejected": _REJECTED, "annotated": "", "ledger": ""}
        )
        self.settings = settings.model_copy(update={"sink": sink})
        self.folder, self._format = folder, form
        manifest = bundle.manifest
        self._model = {"name": manifest.name, "version": manifest.version, "sha256": bundle.sha256}

    def standing(self, archive: Archive) -> Standing:
        """How far the archive's manifest says it is.

        Raises
        ------
        ConfigError
            If the folder holds the archive's answers by another model, or in another format.
        """
        manifest = self._manifest(archive)
        counts = Counts()
        for part in manifest.parts:
            counts.add(counted(part.counts))
        return Standing(manifest.run, manifest.next, manifest.size, manifest.done, counts, manifest.faults)

    def begin_again(self, archive: Archive) -> None:
        """Forget that the archive is done."""
        if self.standing(archive).done:
            forget_manifest(self.folder, archive.shard)

    def open(self, source: ArchiveSource) -> tuple[Sink, Ledger]:
        """Have the sink; the ledger only counts, the manifest is what remains."""
        sink = FolderSink(self.folder, self._format, self._manifest(source.archive), source)
        return sink, Ledger("", source.archive.shard)

    def _manifest(self, archive: Archive) -> Manifest:
        found = read_manifest(self.folder, archive.shard)
        if found is None:
            began = datetime.now(UTC).isoformat(timespec="milliseconds")
            run = f"{archive.digest[:8]}-{self._model['sha256'][:8]}"
            return Manifest(
                run, archive.name, archive.digest, archive.size, self._model, began, self._format.name
            )
        if found.model["sha256"] != self._model["sha256"]:
            told = f"{found.model['name']} {found.model['version']}"
            raise ConfigError(
                f"{self.folder} holds {archive.name} as scored by {told} (sha256 {found.model['sha256'][:12]}): "
                "take another folder for this model"
            )
        if found.format != self._format.name:
            raise ConfigError(f"{self.folder} holds {archive.name} as {found.format}: take another folder")
        return found


class FolderSink:
    """Keeps answers until a part is complete, then writes it.

    A commit is kept by the process, not yet by the disk: what a crash takes of it is less than a part, and is
    answered again. :class:`~space2vec.stream.replay_standing.Standing` tells of what is on disk.
    """

    def __init__(self, folder: Path, form: Format, manifest: Manifest, source: ArchiveSource) -> None:
        self._folder, self._format, self._manifest, self._source = folder, form, manifest, source
        self._open: list[_Answer] = []
        self._kept: list[_Answer] = []
        self._lock = ExitStack()
        self._lock.enter_context(locked(folder, source.archive.shard))

    def write(self, records: Sequence[OutputRecord]) -> None:
        """Take records; of a rejected packet its bytes, of all others none."""
        name = self._source.archive.name
        for record in records:
            take = _of_rejected if record.topic == _REJECTED else _of_alert
            self._open.append(take(record, name))

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Write every part that is complete, and at the archive's end the last one."""
        self._kept += self._open
        self._open = []
        committed = offsets[self._source.partition]
        while (end := self._part_end(committed)) is not None:
            self._write_part(end)

    def abort(self) -> None:
        """Forget what has been taken since the last commit."""
        self._open = []

    def close(self) -> None:
        """Let others have the archive; an unfinished part is answered again."""
        self._lock.close()

    def _part_end(self, committed: int) -> int | None:
        first = self._manifest.next
        end, size = first + PART_MEMBERS, 0
        for answer in self._kept:
            size += answer.size
            if answer.member >= end:
                break
            if size > PART_BYTES:
                end = answer.member + 1
                break
        if end <= committed:
            return end
        return committed if first < committed == self._source.end else None

    def _write_part(self, end: int) -> None:
        manifest, first = self._manifest, self._manifest.next
        answers = [answer for answer in self._kept if answer.member < end]
        self._kept = self._kept[len(answers) :]
        stem = f"{self._source.archive.shard}-{first:09d}-{end:09d}{self._format.suffix}"
        about = {
            "archive": manifest.archive,
            "digest": manifest.digest,
            "run": manifest.run,
            "first": str(first),
            "end": str(end),
            "model": manifest.model["name"],
            "version": manifest.model["version"],
            "sha256": manifest.model["sha256"],
        } | ({"began": manifest.began} if self._format.name == "avro" else {})
        contents: dict[str, bytes] = {}
        for night, rows in _by_night(answers).items():
            contents[f"{_ALERTS}/night={night}/{stem}"] = self._format.alerts(rows, about)
        if rejected := [answer.row for answer in answers if answer.rejected]:
            contents[f"{_REJECTED}/{stem}"] = self._format.rejected(rejected, about)
        files = write_files(self._folder, contents)
        manifest.parts.append(Part(first, end, _counts(answers, end - first), files))
        manifest.done = end == self._source.end
        manifest.faults = self._source.faults if manifest.done else []
        manifest.save(self._folder, self._source.archive.shard)


def _of_alert(record: OutputRecord, archive: str) -> _Answer:
    """A row of a classification record: one datum, in a container whose header is known."""
    value = record.value
    assert value is not None
    _, start = decode_long(value, _PREFIX)  # how many records: one
    _, start = decode_long(value, start)  # how many bytes
    row = fastavro.schemaless_reader(BytesIO(value[start:]), parsed_schema("classification"), None)
    assert isinstance(row, dict)
    member = record.source.offset
    return _Answer(member, row | {"archive": archive, "member": member}, False, 0)


def _of_rejected(record: OutputRecord, archive: str) -> _Answer:
    headers = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
    packet = record.value or b""
    member = record.source.offset
    row = {
        "survey": headers.get("survey"),
        "alert_id": int(headers["alert_id"]) if "alert_id" in headers else None,
        "reason": headers["reason"],
        "detail": headers["detail"],
        "field": headers.get("field"),
        "records": int(headers["rejected_records"]),
        "file": json.loads(headers[PROVENANCE])["member"],
        "packet": packet,
        "archive": archive,
        "member": member,
    }
    return _Answer(member, row, True, len(packet))


def _by_night(answers: Sequence[_Answer]) -> dict[str, list[dict[str, Any]]]:
    nights: dict[str, list[dict[str, Any]]] = {}
    for answer in answers:
        if not answer.rejected:
            taken = answer.row["mjd_tai"]
            night = _NO_NIGHT if taken is None else night_of(round((taken - _MJD_OF_1970) * 86_400_000))
            nights.setdefault(night, []).append(answer.row)
    return nights


def _counts(answers: Sequence[_Answer], members: int) -> dict[str, Any]:
    status = Counter(answer.row["status"] for answer in answers if not answer.rejected)
    reasons: Counter[str] = Counter()
    for answer in answers:
        if answer.rejected:
            reasons[answer.row["reason"]] += answer.row["records"]
    return {
        "messages": members,
        "empty": members - len({answer.member for answer in answers}),
        "scored": status["scored"],
        "degraded": status["degraded"],
        "rejected": dict(reasons),
    }


def form_named(name: str) -> Format:
    """The format of part files by its name.

    Raises
    ------
    ConfigError
        If there is no such format.
    """
    if name == "parquet":
        from space2vec.stream import parquet_tables as parquet

        return Format(name, parquet.SUFFIX, parquet.alerts_table, parquet.rejected_table)
    if name == "avro":
        from space2vec.stream import replay_avro as avro

        return Format(name, avro.SUFFIX, avro.alerts_container, avro.rejected_container)
    raise ConfigError(f"--to {name}: expected kafka:TOPIC, parquet:DIR or avro:DIR")
