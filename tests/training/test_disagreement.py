"""Errors where members of an ensemble agree, and where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from space2vec.training.disagreement import BLOCK, by_spread


def drawn(informative: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, spreads that do or do not tell more of an error than the score does, and the truth."""
    rng = np.random.default_rng(8)
    logit = rng.normal(0, 2.5, 40_000)
    doubtful = rng.random(len(logit)) < 0.5
    truth = np.where(doubtful, 0.5, 1.5) * logit if informative else logit
    real = rng.random(len(logit)) < 1 / (1 + np.exp(-truth))
    spread = np.where(doubtful, 1.0, 0.2) + 0.01 * np.abs(logit)
    return logit.astype(np.float32), spread.astype(np.float32), real


@pytest.mark.parametrize("informative", [True, False])
def test_disagreement_tells_of_errors_only_where_it_does(informative: bool) -> None:
    found = by_spread(*drawn(informative))
    assert list(found) == ["0 to 1", "1 to 2", "2 to 3", "3 to inf"]
    for part in found.values():
        agreed, disagreed = part["agreed"], part["disagreed"]  # type: ignore[index,call-overload]
        assert agreed["spread"] < 0.5 < disagreed["spread"]  # type: ignore[index,call-overload,operator]
        rates = [half["wrong"] / half["count"] for half in (agreed, disagreed)]  # type: ignore[index,call-overload,operator]
        if informative:
            assert rates[1] > 1.2 * rates[0]
        else:
            assert rates[1] == pytest.approx(rates[0], abs=0.02)


def test_both_halves_have_the_same_scores_and_every_block_is_counted() -> None:
    logit, spread, real = drawn(informative=True)
    found = by_spread(logit[:1009], np.abs(logit[:1009]), real[:1009])
    counts = [[part[half]["count"] for half in ("agreed", "disagreed")] for part in found.values()]  # type: ignore[index,call-overload]
    assert np.sum(counts) == 1009 // BLOCK * BLOCK
    # Even a spread that is the score's own magnitude parts neighbours only.
    assert all(abs(agreed - disagreed) <= 2 * BLOCK for agreed, disagreed in counts)
    assert len(by_spread(logit[:19], spread[:19], real[:19])) == 0
