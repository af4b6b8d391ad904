"""A batch: messages opened, their alerts prepared for scoring, and every failure noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import PacketError, Reason, SchemaUnavailable
from space2vec.schemas.reader import PacketReader
from space2vec.stream.protocols import Message
from space2vec.workers.preprocess import Preprocessor
from space2vec.workers.quality import Flag

if TYPE_CHECKING:
    from space2vec.stream.offsets import Claim
    from space2vec.stream.protocols import Ticket


@dataclass(slots=True)
class Outcome:
    """One record of a message: an alert with its row in the batch, or why there is none."""

    alert: Alert | None
    error: PacketError | None = None
    row: int | None = None
    flags: tuple[Flag, ...] = ()


@dataclass(slots=True)
class Batch:
    """Messages on their way through, in the order consumed.

    ``outcomes[i]`` belongs to ``messages[i]``; ``stamps`` is ``(N, 3, S, S)`` float32.
    """

    messages: list[Message]
    outcomes: list[list[Outcome]]
    stamps: NDArray[np.float32] = field(repr=False)
    claims: list[Claim] = field(default_factory=list)
    ticket: Ticket | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the packets held."""
        return sum(len(message.value) for message in self.messages)


class Opener:
    """Opens messages into batches."""

    def __init__(self, reader: PacketReader, preprocessor: Preprocessor) -> None:
        self._reader = reader
        self._preprocessor = preprocessor

    def open(self, messages: Sequence[Message]) -> Batch:
        """Read every packet and prepare its stamps.

        Raises
        ------
        SchemaUnavailable
            If a writer schema cannot be had now; nothing is lost by trying again later.
        """
        outcomes = [self._read(message) for message in messages]
        readable = [outcome for of_message in outcomes for outcome in of_message if outcome.alert is not None]
        alerts = [outcome.alert for outcome in readable if outcome.alert is not None]
        prepared = self._preprocessor.prepare(alerts)
        for row, index in enumerate(prepared.rows):
            readable[index].row = row
            readable[index].flags = prepared.flags[row]
        for index, error in prepared.rejects.items():
            readable[index].error = error
        return Batch(list(messages), outcomes, prepared.stamps)

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
