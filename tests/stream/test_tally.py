"""The tally against a plain count: gaps and doubles are found, and only those."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from space2vec.stream.tally import Tally


@given(
    first=st.integers(0, 5000),
    there=st.sets(st.integers(0, 3000)),
    answers=st.lists(st.integers(0, 3000)),
    end=st.integers(0, 3001),
)
def test_findings_are_the_offsets_not_answered_once(
    first: int, there: set[int], answers: list[int], end: int
) -> None:
    tally = Tally(first)
    for offset in there:
        tally.source(first + offset)
    for offset in answers:
        tally.answer(first + offset, 1, 1)
    counts = Counter(answers)
    wrong = {
        offset: counts[offset]
        for offset in there | set(counts)
        if offset < end and counts[offset] != (offset in there)
    }
    found = {
        offset - first: finding.answers
        for finding in tally.findings(first + end)
        for offset in range(finding.first, finding.last + 1)
    }
    assert found == wrong
    missing = sum(max(0, (offset in there) - counts[offset]) for offset in wrong)
    doubled = sum(max(0, counts[offset] - (offset in there)) for offset in wrong)
    assert tally.totals(first + end) == (missing, doubled)
    assert tally.messages(first + end) == sum(offset < end for offset in there)


def test_a_message_of_many_records_needs_them_all() -> None:
    tally = Tally(0)
    tally.source(0)
    tally.answer(0, 1, 3)
    tally.answer(0, 1, 3)
    (finding,) = tally.findings(1)
    assert str(finding) == "offset 0 missing: 2 of 3 answered"
    tally.answer(0, 1, 3)
    assert list(tally.findings(1)) == []


def test_a_silent_message_is_no_gap() -> None:
    tally = Tally(0)
    tally.source(0)
    tally.silent(0)
    assert list(tally.findings(1)) == []


def test_what_stands_before_the_first_offset_is_not_counted() -> None:
    tally = Tally(100)
    tally.answer(99, 1, 1)
    tally.source(99)
    assert list(tally.findings(200)) == []
