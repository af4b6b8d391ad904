"""Trial runs of the application against a real broker: running it, and holding what came out to account."""

from __future__ import annotations

import io
import os
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from space2vec.schemas.classification import decode_classification
from space2vec.schemas.settings import Settings
from space2vec.stream.app import run_application
from space2vec.stream.summary import Summary


class Outputs:
    """What came out, read back as any consumer would."""

    def __init__(self, kafka: Any, settings: Settings) -> None:
        sink = settings.sink
        self.annotated = {s: self._read(kafka, sink.annotated.format(survey=s)) for s in ("ztf", "lsst")}
        self.classified = [
            message
            for s in ("ztf", "lsst")
            for message in self._read(kafka, sink.classifications.format(survey=s))
        ]
        self.rejected = self._read(kafka, sink.rejected)

    @staticmethod
    def _read(kafka: Any, topic: str) -> list[Any]:
        try:
            return kafka.read(topic)
        except KeyError:
            return []

    def ids(self) -> Counter[tuple[str, int]]:
        return Counter(
            (record["survey"], record["alert_id"])
            for record in (decode_classification(message.value()) for message in self.classified)
        )


def expected_ids(sent: Sequence[Any]) -> Counter[tuple[str, int]]:
    return Counter((s.survey, s.alert_id) for s in sent if s.alert_id is not None)


def assert_all_answered(outputs: Outputs, sent: Sequence[Any], *, exactly: bool) -> None:
    answered, expected = outputs.ids(), expected_ids(sent)
    rejected = Counter(message.value() for message in outputs.rejected)
    poison = Counter(s.packet for s in sent if s.alert_id is None)
    if exactly:
        assert answered == expected
        assert rejected == poison
    else:  # at least once: doubles are allowed after a crash, gaps never
        assert set(answered) == set(expected)
        assert set(rejected) == set(poison)


class Run(threading.Thread):
    """The application in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.settings, self.stop = settings, threading.Event()
        self.summary: Summary | None = None
        self.latest = Summary.__new__(Summary)
        self.error: BaseException | None = None
        self.seen = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            self.summary = run_application(self.settings, self.stop, self._on_status)
        except BaseException as error:  # noqa: BLE001 - raised again by finish()
            self.error = error

    def _on_status(self, summary: Summary) -> None:
        self.latest = summary
        if summary.counts.messages:
            self.seen.set()

    def finish(self, timeout: float = 180) -> Summary:
        self.join(timeout)
        assert not self.is_alive(), "the application did not end"
        if self.error is not None:
            raise self.error
        assert self.summary is not None
        return self.summary


def tar_of(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    """Write a tar archive of these files, by name."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def await_that(holds: Callable[[], bool], deadline_s: float = 150) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.5)


def actor_pids(name: str) -> Iterator[int]:
    """Processes below this one that run such an actor (Ray titles them so): of the Ray of these tests, no other's."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title, process = (entry / "cmdline").read_bytes(), int(entry.name)
            if title.startswith(f"ray::{name}".encode()) and os.getpid() in _ancestors(process):
                yield process
        except OSError:  # it has ended meanwhile
            continue


def _ancestors(process: int) -> Iterator[int]:
    while process > 1:
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        yield process


def actor_pid(name: str) -> int:
    """One of them."""
    process = next(actor_pids(name), None)
    if process is not None:
        return process
    raise AssertionError(f"no {name} is alive")
