"""Scoring without Kafka: packets from files in, one verdict per alert out, in the order read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import PacketError, Reason, SchemaUnavailable
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.rubin import InstalledRubinSchemas
from space2vec.stream.archives import PacketFile
from space2vec.workers.backends import Backend
from space2vec.workers.bundle import Bundle
from space2vec.workers.preprocess import Preprocessor
from space2vec.workers.quality import Status, status_of

BATCH: Final = 256
"""Alerts scored at a time, across files."""
ADVICE: Final = "give --schemas FOLDER or --registry URL"
RUBIN_ADVICE: Final = "for Rubin's schemas: pip install 'space2vec[rubin]', or"
"""What to do about a packet whose writer schema is not to be had."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one record of one file.

    Attributes
    ----------
    file : str
        As :class:`~space2vec.stream.archives.PacketFile` names it.
    record : int
        Its place in the file, from 0.
    survey, alert_id, object_id : optional
        What is known of the alert.
    status : Status
        scored, degraded or rejected.
    reason, detail : str or None
        Why it was rejected.
    flags : tuple of str
        Quality flags of the stamps.
    score : float or None
        Probability that the alert is real.
    spread : float or None
        Standard deviation of its log-odds over an ensemble.
    classes : dict or None
        Label to probability.
    """

    file: str
    record: int
    survey: str | None
    alert_id: int | None
    object_id: str | None
    status: Status
    reason: str | None = None
    detail: str | None = None
    flags: tuple[str, ...] = ()
    score: float | None = None
    spread: float | None = None
    classes: dict[str, float] | None = None

    def as_json(self, bundle: Bundle) -> dict[str, Any]:
        """Give the verdict as the record that ``space2vec score --json`` writes."""
        manifest = bundle.manifest
        record = {name: getattr(self, name) for name in self.__slots__}
        return record | {"model": manifest.name, "version": manifest.version, "sha256": bundle.sha256}


class OfflineScorer:
    """Reads files and scores their alerts in batches.

    Parameters
    ----------
    reader, preprocessor, backend
        Packets to alerts to stamps to scores.
    bundle : Bundle
        Names the classes.
    batch : int
        Alerts scored at a time.
    """

    def __init__(
        self,
        reader: PacketReader,
        preprocessor: Preprocessor,
        backend: Backend,
        bundle: Bundle,
        batch: int = BATCH,
    ) -> None:
        self._reader, self._preprocessor, self._backend = reader, preprocessor, backend
        self._classes = bundle.manifest.classes
        self._batch = batch

    def score(self, files: Iterable[PacketFile]) -> Iterator[Verdict]:
        """Give a verdict on every record of every file; whatever is wrong with one stops no other."""
        pending: list[tuple[str, int, Alert | PacketError]] = []
        for file in files:
            for number, record in enumerate(read_records(self._reader, file)):
                pending.append((file.name, number, record))
                if len(pending) == self._batch:
                    yield from self._verdicts(pending)
                    pending = []
        yield from self._verdicts(pending)

    def _verdicts(self, pending: list[tuple[str, int, Alert | PacketError]]) -> Iterator[Verdict]:
        places = [i for i, (_, _, record) in enumerate(pending) if isinstance(record, Alert)]
        prepared = self._preprocessor.prepare(
            [record for _, _, record in pending if isinstance(record, Alert)]
        )
        errors = {places[index]: error for index, error in prepared.rejects.items()}
        rows = {places[index]: row for row, index in enumerate(prepared.rows)}
        scores = self._backend.score(prepared.stamps) if rows else None
        probability = () if scores is None else scores.probability
        spread = None if scores is None else scores.spread
        for i, (file, number, record) in enumerate(pending):
            if isinstance(record, PacketError):
                yield _rejected(file, number, record, None)
            elif i in errors:
                yield _rejected(file, number, errors[i], record)
            else:
                flags = tuple(str(flag) for flag in prepared.flags[rows[i]])
                score = float(probability[rows[i]])
                positive, negative = self._classes
                yield Verdict(
                    file,
                    number,
                    record.survey,
                    record.alert_id,
                    record.object_id,
                    status_of(flags),
                    flags=flags,
                    score=score,
                    spread=None if spread is None else float(spread[rows[i]]),
                    classes={positive: score, negative: 1.0 - score},
                )


def read_records(reader: PacketReader, file: PacketFile) -> Iterator[Alert | PacketError]:
    """Yield the records of a file, or why there are none."""
    if file.fault is not None:
        yield file.fault
        return
    try:
        for record in reader.read(file.raw):
            if isinstance(record, PacketError) and record.reason is Reason.UNKNOWN_SCHEMA:
                record = _advised(record.detail)
            yield record
    except SchemaUnavailable as error:
        yield _advised(str(error))


def _advised(detail: str) -> PacketError:
    advice = ADVICE if InstalledRubinSchemas.available() else f"{RUBIN_ADVICE} {ADVICE}"
    return PacketError(Reason.UNKNOWN_SCHEMA, f"{detail} ({advice})")


def _rejected(file: str, number: int, error: PacketError, alert: Alert | None) -> Verdict:
    known = alert if alert is not None else error
    detail = f"{error.field}: {error.detail}" if error.field else error.detail
    return Verdict(
        file,
        number,
        known.survey,
        known.alert_id,
        known.object_id,
        Status.REJECTED,
        reason=str(error.reason),
        detail=detail,
    )
