"""Real stamps with labels are read as their files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from space2vec.training.labelled import read_labelled
from space2vec.workers.manifest import InputSpec

SPEC = InputSpec(size=31)


def write(folder: Path, survey: str, ids: list[int], table: str, sizes: list[int], canvas: int) -> np.ndarray:
    triplets = np.full((len(ids), 3, canvas, canvas), np.nan, np.float32)
    rng = np.random.default_rng(0)
    for triplet, size in zip(triplets, sizes, strict=True):
        triplet[:, :size, :size] = rng.normal(size=(3, size, size))
        triplet[:, size // 2, size // 2] += 40
    np.savez(folder / f"{survey}.npz", id=ids, triplets=triplets, shape=[[s, s] for s in sizes])
    (folder / f"{survey}.csv").write_text(table)
    return triplets


def test_sources_come_to_the_centre_and_negative_ones_are_turned(tmp_path: Path) -> None:
    table = "diaSourceId,isNegative,reliability\n8,True,0.2\n7,False,\n9,,0.95\n"
    write(tmp_path, "lsst", [7, 8, 9], table, [30, 30, 41], 48)
    labelled = read_labelled(tmp_path, "lsst")
    inputs = labelled.inputs(SPEC)
    assert (inputs[:, :2, 15, 15] > 2).all()
    assert np.array_equal(np.sign(inputs[:, 2, 15, 15]), [1, -1, 1])
    assert np.array_equal(labelled.numbers("reliability"), [np.nan, 0.2, 0.95], equal_nan=True)
    assert list(labelled.text("isNegative")) == ["False", "True", ""]


def test_ztf_has_turned_them_itself(tmp_path: Path) -> None:
    write(tmp_path, "ztf", [1], "candid,isdiffpos\n1,f\n", [63], 63)
    assert read_labelled(tmp_path, "ztf").inputs(SPEC)[0, 2, 15, 15] > 2


def test_a_stamp_without_a_row_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "ztf", [1, 2], "candid,drb\n1,0.5\n", [63, 63], 63)
    with pytest.raises(ValueError, match="no row for id 2"):
        read_labelled(tmp_path, "ztf")
