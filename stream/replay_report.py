"""What a replay says while it runs, and at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

import structlog

from space2vec.stream.counts import Counts
from space2vec.stream.replay import Progress
from space2vec.stream.replay_archives import Archive
from space2vec.stream.replay_fleet import Tell
from space2vec.stream.replay_members import Member, Reader

log = structlog.get_logger()

_REPORT_S: Final = 10.0
_LOOK_S: Final = 0.5


class _Together:
    """All archives of a replay, by the bytes read of the whole."""

    def __init__(self, archives: Sequence[Archive]) -> None:
        self._began = time.monotonic()
        self._whole = sum(archive.size for archive in archives)
        self._progress: dict[str, Progress] = {}

    def note(self, progress: Progress) -> None:
        self._progress[progress.archive.shard] = progress

    def now(self) -> dict[str, Any]:
        """Give alerts done and rejected, rate per second, share of the bytes read, and seconds left."""
        counts, fresh, read, skipped = Counts(), 0, 0, 0
        for progress in list(self._progress.values()):
            counts.add(progress.counts)
            fresh += progress.fresh
            read += progress.archive.size if progress.done else progress.bytes_read
            skipped += progress.archive.size if progress.skipped else 0
        took = max(time.monotonic() - self._began, 1e-9)
        per_s = (read - skipped) / took
        return {
            "alerts": counts.alerts,
            "rejected": counts.rejected,
            "rate": round(fresh / took, 1),
            "percent": round(100 * read / self._whole, 1) if self._whole else 100.0,
            "left_s": round((self._whole - read) / per_s) if per_s > 0 else None,
        }


@contextmanager
def reporting(archives: Sequence[Archive]) -> Iterator[Tell]:
    """Give what is to be told of progress: a line on a terminal, a log line now and then elsewhere."""
    together = _Together(archives)
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("reading") as status:

            def show(progress: Progress) -> None:
                together.note(progress)
                now = together.now()
                left = "" if now["left_s"] is None else f", {timedelta(seconds=now['left_s'])} left"
                status.update(
                    f"{now['percent']} % read, {now['alerts']} alerts, {now['rejected']} rejected, "
                    f"{now['rate']}/s{left}"
                )

            yield show
        return
    last = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal last
        together.note(progress)
        if time.monotonic() - last >= _REPORT_S:
            last = time.monotonic()
            log.info("replay", **together.now())

    yield tell


def watched(archive: Archive, reader: Reader, tell: Tell) -> Iterator[Member]:
    """Yield an archive's packets, telling about twice a second how far that is."""
    last, count = time.monotonic(), 0
    for count, member in enumerate(reader.members(), 1):
        yield member
        if time.monotonic() - last >= _LOOK_S:
            last = time.monotonic()
            tell(Progress(archive, "", Counts(scored=count), count, reader.bytes_read))
    tell(Progress(archive, "", Counts(scored=count), count, done=True))


def summary(ended: Sequence[Progress], of: int, seconds: float) -> dict[str, Any]:
    """Sum a replay up, as ``--json`` gives it.

    Parameters
    ----------
    ended : sequence of Progress
        Of the archives that were begun.
    of : int
        How many there are.
    seconds : float
        How long it took.
    """
    counts = Counts()
    for progress in ended:
        counts.add(progress.counts)
    fresh = sum(progress.fresh for progress in ended)
    return {
        "archives": of,
        "done": sum(progress.done for progress in ended),
        "skipped": sum(progress.skipped for progress in ended),
        "alerts": counts.alerts,
        "scored": counts.scored,
        "degraded": counts.degraded,
        "rejected": counts.rejected,
        "reasons": dict(counts.reasons.most_common()),
        "fresh": fresh,
        "rate": round(fresh / seconds, 1) if seconds > 0 else 0.0,
        "behind_s": round(max((progress.behind_s for progress in ended), default=0.0), 1),
        "seconds": round(seconds, 2),
        "each": [
            {
                "archive": progress.archive.name,
                "digest": progress.archive.digest,
                "run": progress.run,
                "messages": progress.counts.messages,
                "done": progress.done,
                "skipped": progress.skipped,
                "faults": list(progress.faults),
            }
            for progress in ended
        ],
    }


def told(summary: dict[str, Any]) -> str:
    """Put a summary into lines for people."""
    lines = []
    for each in summary["each"]:
        state = (
            "was done already" if each["skipped"] else "done" if each["done"] else "not finished: run again"
        )
        lines.append(f"{each['archive']}: {each['messages']} packets, {state}")
        lines += [f"  {fault}" for fault in each["faults"]]
    if (untouched := summary["archives"] - len(summary["each"])) > 0:
        lines.append(f"{untouched} more not begun: run again")
    why = ", ".join(f"{reason} {count}" for reason, count in summary["reasons"].items())
    lines.append(
        f"{summary['alerts']} alerts: {summary['scored']} scored, {summary['degraded']} degraded, "
        f"{summary['rejected']} rejected{f' ({why})' if why else ''}; {summary['fresh']} packets now, "
        f"{summary['rate']}/s, {summary['seconds']} s"
    )
    if summary["behind_s"] >= 1:
        lines.append(f"the pace was not kept: up to {summary['behind_s']} s behind")
    return "\n".join(lines) + "\n"
