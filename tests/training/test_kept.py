"""What a run leaves behind is what the next one would have made."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from space2vec.training.kept import kept_numbers, kept_table
from space2vec.training.simulate import Candidates, generate


def test_candidates_come_back_to_the_bit(tmp_path: Path) -> None:
    file = tmp_path / "new" / "ztf.npz"
    made = kept_table(file, Candidates, lambda: generate("ztf", 20, 3))
    read = kept_table(file, Candidates, lambda: pytest.fail("made again"))
    assert read.survey == "ztf"
    for column in fields(Candidates):
        np.testing.assert_array_equal(getattr(read, column.name), getattr(made, column.name))


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    made: list[int] = []
    for _ in range(2):
        assert kept_numbers(None, lambda: made.append(1) or {"auc": 0.5}) == {"auc": 0.5}  # type: ignore[func-returns-value]
    assert len(made) == 2
    assert kept_numbers(tmp_path / "found.json", lambda: {"auc": [0.25, None]}) == {"auc": [0.25, None]}
    assert kept_numbers(tmp_path / "found.json", lambda: pytest.fail("made again")) == {"auc": [0.25, None]}
