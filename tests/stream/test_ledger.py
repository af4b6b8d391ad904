"""The ledger: nights, sums, and what it says of silent messages."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from space2vec.stream.counts import Counts
from space2vec.stream.ledger import Ledger, night_of
from space2vec.stream.protocols import Message, Partition


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("moment", "night"),
    [
        ("2026-11-22T12:00:00", "20261122"),  # noon in UTC: the next dusk's night
        ("2026-11-23T03:00:00", "20261122"),  # after midnight, the same night
        ("2026-11-23T11:59:59", "20261122"),
        ("2026-11-23T12:00:00", "20261123"),
    ],
)
def test_a_night_has_one_date_from_dusk_to_dawn(moment: str, night: str) -> None:
    assert night_of(ms(moment)) == night


def test_lines_add_up_per_partition_and_night() -> None:
    ledger = Ledger("ledger", "worker-0")
    first, second = Partition("alerts", 0), Partition("alerts", 1)
    evening, next_evening = ms("2026-11-22T20:00:00"), ms("2026-11-23T20:00:00")
    ledger.note(Message(first, 5, b"", timestamp_ms=evening), Counts(messages=1, scored=1))
    ledger.note(Message(first, 9, b"", timestamp_ms=evening), Counts(messages=1, empty=1))
    rejected = Counts(messages=1, rejected=1, reasons=Counter({"bad_framing": 1}))
    ledger.note(Message(first, 12, b"", timestamp_ms=next_evening), rejected)
    ledger.note(Message(second, 0, b"", timestamp_ms=evening), Counts(messages=1, duplicates=1))

    lines = [json.loads(record.value or b"") for record in ledger.records()]
    by_place = {(line["partition"], line["night"]): line for line in lines}
    assert set(by_place) == {(0, "20261122"), (0, "20261123"), (1, "20261122")}
    line = by_place[0, "20261122"]
    assert (line["first"], line["next"], line["messages"], line["scored"]) == (5, 10, 2, 1)
    assert line["silent"] == [9]
    assert by_place[0, "20261123"]["rejected"] == {"bad_framing": 1}
    assert by_place[1, "20261122"]["silent"] == [0]
    assert ledger.total.messages == 4
    assert all(record.topic == "ledger" for record in ledger.records())


def test_a_cleared_ledger_is_empty() -> None:
    ledger = Ledger("ledger", "worker-0")
    ledger.note(Message(Partition("alerts", 0), 5, b""), Counts(messages=1, scored=1))
    ledger.clear()
    assert ledger.records() == []
    assert ledger.total == Counts()


def test_without_a_topic_there_are_counts_but_no_lines() -> None:
    ledger = Ledger("", "worker-0")
    ledger.note(Message(Partition("alerts", 0), 5, b""), Counts(messages=1, scored=1))
    assert ledger.records() == []
    assert ledger.total.scored == 1


def test_a_listing_ledger_names_every_offset() -> None:
    ledger = Ledger("ledger", "redrive", listing=True)
    for offset in (3, 8):
        ledger.note(Message(Partition("rejected", 0), offset, b""), Counts(messages=1, scored=1))
    (record,) = ledger.records()
    assert json.loads(record.value or b"")["offsets"] == [3, 8]
