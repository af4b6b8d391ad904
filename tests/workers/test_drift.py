"""Drift and stuck scores: what the measure must do whatever the counts, and what is counted."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from space2vec.workers.drift import BLOCK, Watch, stability_index
from space2vec.workers.manifest import Counted, InputSpec
from space2vec.workers.quality import Flag
from space2vec.workers.reference import count, reference_of, statistics

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=12)
PAIRS = COUNTS.flatmap(
    lambda mine: st.tuples(
        st.just(mine), st.lists(st.integers(0, 10**6), min_size=len(mine), max_size=len(mine))
    )
)
SPEC = InputSpec(size=9)


def stamps_of(seed: int, count: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(count, 3, 9, 9))).astype(np.float32)


@given(PAIRS)
def test_the_index_is_a_divergence(pair: tuple[list[int], list[int]]) -> None:
    mine, theirs = pair
    index = stability_index(mine, theirs)
    assert index >= 0
    assert np.isfinite(index)
    assert stability_index(mine, mine) == 0
    assert stability_index(theirs, mine) == pytest.approx(index)
    turned = stability_index(mine[::-1], theirs[::-1])
    assert turned == pytest.approx(index, abs=1e-9)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=10), st.integers(2, 50))
def test_the_same_shares_are_no_drift_whatever_their_number(counts: list[int], times: int) -> None:
    many = [c * 1000 for c in counts]
    assert stability_index(many, [c * times for c in many]) < 1e-3


def test_the_index_by_hand() -> None:
    """Half in each of two bins against three to one: (1/4) ln(3/2) - (1/4) ln(1/2)."""
    found = stability_index([500_000, 500_000], [750_000, 250_000])
    assert found == pytest.approx(0.25 * np.log(3), rel=1e-4)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.lists(st.integers(1, 20), max_size=10))
def test_a_run_of_equal_scores_is_counted_over_any_batches(scores: list[int], cuts: list[int]) -> None:
    logit = np.array(scores, np.float32)
    watch = Watch()
    for part in np.split(logit, np.cumsum(cuts)):
        watch.note(part, {}, {})
    run = next((i for i, score in enumerate(reversed(scores)) if score != scores[-1]), len(scores))
    assert watch.identical == run
    assert watch.window == len(scores)


def test_scores_that_are_no_numbers_are_stuck_too() -> None:
    watch = Watch()
    watch.note(np.full(70, np.nan, np.float32), {}, {})
    assert watch.identical == 70


def test_alerts_like_the_references_are_no_drift_and_others_are() -> None:
    rng = np.random.default_rng(1)
    flags = [(Flag.NAN,) if i % 20 == 0 else () for i in range(4000)]
    reference = reference_of(stamps_of(1, 4000), SPEC, rng.beta(0.3, 0.3, 4000), flags)
    assert set(reference) == {
        "score", "flags", "centre_science", "spread_science", "centre_template", "spread_template",
        "centre_difference", "spread_difference",
    }  # fmt: skip
    like, unlike = Watch(), Watch()
    probability = rng.beta(0.3, 0.3, 2000)
    logit = np.log(probability / (1 - probability)).astype(np.float32)
    like.note(logit, statistics(stamps_of(2, 2000), SPEC, probability, flags[:2000]), reference)
    assert max(like.drift(reference).values()) < 0.05
    flagged = [(Flag.TRUNCATED,)] * 1000 + [()] * 1000
    seen = statistics(stamps_of(3, 2000, 1.5), SPEC, probability**3, flagged)
    unlike.note(logit, seen, reference)
    assert min(unlike.drift(reference).values()) > 0.1
    assert like.identical < 5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_a_reference_counts_every_alert_once_however_equal_they_are(probability: list[float]) -> None:
    number = len(probability)
    made = reference_of(np.zeros((number, 3, 9, 9), np.float32), SPEC, np.array(probability), [()] * number)
    for counted in made.values():
        assert sum(counted.counts) == number
        assert Counted.model_validate_json(counted.model_dump_json()) == counted
    assert count(np.array(probability), made["score"].bounds).tolist() == list(made["score"].counts)


def test_a_reference_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs alerts"):
        reference_of(stamps_of(1, 0), SPEC, np.empty(0), [])


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [((1, 1), (1, 2, 3)), ((2, 1), (1, 2, 3)), ((1, 2), (1, 2)), ((1,), (0, 0)), ((1,), (-1, 2))],
)
def test_bins_that_do_not_agree_are_refused(bounds: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Counted(bounds=bounds, counts=counts)


def test_the_window_holds_the_latest_alerts_and_forgets_the_first() -> None:
    reference = {"score": Counted(bounds=(0.5,), counts=(1, 1))}
    watch = Watch()
    for value in (0.1, 0.9, 0.9):
        for _ in range(BLOCK // 500):
            logit = np.random.default_rng(1).normal(size=500).astype(np.float32)
            watch.note(logit, {"score": np.full(500, value)}, reference)
    assert watch.window == 2 * BLOCK
    assert watch.drift(reference)["score"] > 4  # nothing is left of the low scores
    first = pickle.loads(pickle.dumps(watch))
    first.add(watch)
    assert first.window == 4 * BLOCK
    assert first.drift(reference)["score"] == pytest.approx(watch.drift(reference)["score"], abs=0.7)
