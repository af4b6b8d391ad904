"""The window of alert ids: each alert passes once, and a void answer is no answer."""

from __future__ import annotations

from space2vec.stream.answers import Answer
from space2vec.stream.counts import Counts
from space2vec.stream.window import Window


def answer(*ids: int) -> Answer:
    return Answer([], Counts(messages=1, scored=len(ids)), tuple(("ztf", i) for i in ids))


def test_an_alert_passes_once() -> None:
    window = Window(10)
    first, again = answer(1), answer(1)
    assert window.admit(first) is first
    dropped = window.admit(again)
    assert (dropped.counts.duplicates, dropped.counts.scored) == (1, 0)
    assert window.admit(answer(2)).counts.scored == 1


def test_the_same_number_in_another_survey_is_another_alert() -> None:
    window = Window(10)
    window.admit(answer(1))
    other = Answer([], Counts(messages=1, scored=1), (("lsst", 1),))
    assert window.admit(other) is other


def test_what_was_not_committed_may_come_again() -> None:
    window = Window(10)
    window.admit(answer(1))
    window.void()
    assert window.admit(answer(1)).counts.scored == 1


def test_the_oldest_are_forgotten() -> None:
    window = Window(2)
    for number in (1, 2, 3):
        window.admit(answer(number))
        window.commit()
    assert window.admit(answer(3)).counts.duplicates == 1
    assert window.admit(answer(1)).counts.scored == 1


def test_a_message_with_one_new_alert_passes_whole() -> None:
    window = Window(10)
    window.admit(answer(1))
    assert window.admit(answer(1, 2)).counts.scored == 2


def test_without_a_window_everything_passes() -> None:
    window = Window(0)
    window.admit(answer(1))
    assert window.admit(answer(1)).counts.scored == 1
