"""A batch: messages opened, their alerts prepared for scoring, and every failure noted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Final

import structlog

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import PacketError, Reason, SchemaUnavailable
from space2vec.schemas.reader import PacketReader
from space2vec.stream.models import Look, Model, looks
from space2vec.stream.protocols import Message
from space2vec.workers.preprocess import Preprocessor

log = structlog.get_logger()

SHADOW_S: Final = 5.0
"""How long published answers wait for a shadow."""

if TYPE_CHECKING:
    from space2vec.stream.offsets import Claim


@dataclass(slots=True)
class Outcome:
    """One record of a message: an alert with its number in the batch, or why there is none."""

    alert: Alert | None
    error: PacketError | None = None
    number: int = -1


@dataclass(slots=True)
class Batch:
    """Messages on their way through, in the order consumed.

    ``outcomes[i]`` belongs to ``messages[i]``; ``looks`` has one entry per model; ``submitted`` is when
    they went to the scorers, by ``time.perf_counter``.
    """

    messages: list[Message]
    outcomes: list[list[Outcome]]
    looks: list[Look] = field(repr=False)
    claims: list[Claim] = field(default_factory=list)
    submitted: float = 0.0

    @property
    def size_bytes(self) -> int:
        """Bytes of the packets held."""
        return sum(len(message.value) for message in self.messages)

    def submit(self) -> None:
        """Let every model look."""
        self.submitted = time.perf_counter()
        for look in self.looks:
            look.submit()

    def done(self, timeout: float) -> bool:
        """Whether every model has said what it will; a shadow is waited for a while only, and left out then."""
        if not all(look.done(timeout) for look in self.looks if not look.model.shadow):
            return False
        patient = time.perf_counter() < self.submitted + SHADOW_S
        for look in self.looks:
            if look.model.shadow and not look.done(timeout if patient else 0.0):
                if patient:
                    return False
                look.model.late = look.model.late or replace(look)
                look.leave()
        return True


class Opener:
    """Opens messages into batches.

    Parameters
    ----------
    reader : PacketReader
        Opens packets.
    reject_unavailable : bool
        Whether packets become dead letters when their writer schema cannot be had now; else they wait.
    """

    def __init__(self, reader: PacketReader, *, reject_unavailable: bool = False) -> None:
        self._reject_unavailable = reject_unavailable
        self._reader = reader
        self._preprocessor = cache(Preprocessor)

    def open(self, messages: Sequence[Message], models: Sequence[Model]) -> tuple[Batch, list[Message]]:
        """Read every packet and prepare its stamps for these models.

        Returns
        -------
        batch : Batch
            Of the messages that could be opened.
        held : list of Message
            Those whose writer schema cannot be had now, and what follows them in their partitions:
            order is kept there, while other partitions go on.
        """
        opened: list[Message] = []
        held: list[Message] = []
        outcomes: list[list[Outcome]] = []
        for message in messages:
            if any(message.partition == other.partition for other in held):
                held.append(message)
                continue
            try:
                outcomes.append(self._read(message))
                opened.append(message)
            except SchemaUnavailable as error:
                if self._reject_unavailable:
                    outcomes.append([Outcome(None, PacketError(Reason.UNKNOWN_SCHEMA, str(error)))])
                    opened.append(message)
                    continue
                log.warning(
                    "waiting for a writer schema", detail=str(error), partition=str(message.partition)
                )
                held.append(message)
        alerts: list[Alert] = []
        for outcome in (outcome for of_message in outcomes for outcome in of_message):
            if outcome.alert is not None:
                outcome.number = len(alerts)
                alerts.append(outcome.alert)
        return Batch(opened, outcomes, looks(models, alerts, self._preprocessor)), held

    def _read(self, message: Message) -> list[Outcome]:
        if not message.value:
            return [Outcome(None, PacketError(Reason.EMPTY, "the message has no bytes"))]
        return list(_outcomes(self._reader, message.value))


def _outcomes(reader: PacketReader, value: bytes) -> Iterable[Outcome]:
    try:
        for record in reader.read(value):
            if isinstance(record, PacketError):
                yield Outcome(None, record)
            else:
                yield Outcome(record)
    except SchemaUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours must not stop the stream, nor lose the packet
        yield Outcome(None, PacketError(Reason.BAD_RECORD, f"unexpected {type(error).__name__}: {error}"))
