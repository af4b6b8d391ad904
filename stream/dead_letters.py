"""Dead letters: the original key and bytes of what could not be scored, with the reason in headers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from space2vec.schemas.errors import PacketError
from space2vec.stream.protocols import Headers, Message, OutputRecord

REDRIVEN = "redriven_from"
"""Header of outputs that come of a dead letter: where that stood."""
_OURS = {"reason", "detail", "field", "rejected_records", "rejected_at", "survey", "alert_id"}


def source_headers(message: Message, records: int, answers: int) -> Headers:
    """Headers that name the source message of an output, so that an audit finds gaps and doubles.

    ``source_records`` says how many records the message holds: one, on every known stream. ``source_answers``
    says how many classification records it gets, one per record and bundle, and rejected records
    with them. A dead letter on its way through again keeps the headers that it carries.
    """
    if any(name == REDRIVEN for name, _ in message.headers):
        return ()
    return (
        ("source_topic", message.partition.topic.encode()),
        ("source_partition", str(message.partition.number).encode()),
        ("source_offset", str(message.offset).encode()),
        ("source_records", str(records).encode()),
        ("source_answers", str(answers).encode()),
        ("source_timestamp", str(message.timestamp_ms or 0).encode()),
    )


def dead_letter(
    topic: str, message: Message, errors: Sequence[PacketError], records: int, answers: int
) -> OutputRecord:
    """The dead letter of a message of which at least one record was rejected.

    Parameters
    ----------
    topic : str
        Dead-letter topic.
    message : Message
        The source message; its key, bytes and headers go out unchanged.
    errors : sequence of PacketError
        One per rejected record; the headers tell the first one's reason and how many there are.
    records : int
        How many records the message holds.
    answers : int
        How many classification records and rejected records there are for it.
    """
    first = errors[0]
    headers: list[tuple[str, bytes | None]] = [
        *message.headers,
        ("reason", first.reason.encode()),
        ("detail", first.detail.encode()[:1000]),
        ("rejected_records", str(len(errors)).encode()),
        ("rejected_at", str(time.time_ns() // 1_000_000).encode()),
        *source_headers(message, records, answers),
    ]
    for name, value in (("field", first.field), ("survey", first.survey), ("alert_id", first.alert_id)):
        if value is not None:
            headers.append((name, str(value).encode()))
    return OutputRecord(topic, message.key, message.value, tuple(headers), message)


def reason_of(message: Message) -> str:
    """The reason code that a dead letter carries."""
    return (dict(message.headers).get("reason") or b"").decode()


def revived(letter: Message) -> Message:
    """A dead letter as the message that it was, to be put through again.

    Its own place is what is tracked; the headers name the message it was, and that it comes again.
    """
    kept = tuple((name, value) for name, value in letter.headers if name not in _OURS and name != REDRIVEN)
    place = f"{letter.partition.topic}/{letter.partition.number}/{letter.offset}".encode()
    return replace(letter, headers=(*kept, (REDRIVEN, place)))
