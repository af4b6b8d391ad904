"""Real stamps with labels: ``SURVEY.npz`` and ``SURVEY.csv`` side by side in a folder.

The ``.npz`` has ``id`` (N,), ``triplets`` (N, 3, H, W) float32 and ``shape`` (N, 2): stamps of several
sizes lie in the top left corner of the canvas, NaN beyond. The ``.csv`` has a row for each, by its id.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from space2vec.training.surveys import geometry_of
from space2vec.workers.manifest import InputSpec
from space2vec.workers.preprocess import normalise_triplets

ID_COLUMNS = {"ztf": "candid", "lsst": "diaSourceId"}
"""Column of the ``.csv`` that holds the id."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Real alerts, one row each.

    Attributes
    ----------
    survey : str
        Which survey's.
    triplets : (N, 3, H, W) float32
        Stamps in the top left corner of their canvas.
    shapes : (N, 2) int64
        Rows and columns of each stamp.
    columns : dict of str to list of str
        The table, by column.
    """

    survey: str
    triplets: NDArray[np.float32]
    shapes: NDArray[np.int64]
    columns: dict[str, list[str]]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers, ``(N,)`` float64; NaN where it is empty."""
        return np.array([float(value) if value else np.nan for value in self.columns[name]])

    def text(self, name: str) -> NDArray[np.str_]:
        """Return a column as text, ``(N,)``."""
        return np.array(self.columns[name])

    def take(self, rows: NDArray[np.integer]) -> Labelled:
        """Return some of the rows."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return Labelled(self.survey, self.triplets[rows], self.shapes[rows], columns)

    def inputs(
        self, spec: InputSpec, change: Callable[[NDArray[np.float32]], object] = lambda _: None
    ) -> NDArray[np.float32]:
        """Network inputs, ``(N, 3, S, S)`` float32, the difference turned positive.

        A survey's uncut stamp has its source in the middle. Of a stamp cut at the chip edge the table
        does not tell which side was cut: it is taken for the high one.

        Parameters
        ----------
        spec : InputSpec
            The bundle's input.
        change : callable
            Alters stamps of one size in place, ``(M, 3, side, side)`` float32, before they are normalised.
        """
        out = np.empty((len(self.triplets), len(spec.planes), spec.size, spec.size), np.float32)
        nominal = geometry_of(self.survey).stamp
        sides = np.maximum(self.shapes.max(axis=1), nominal)
        for side in np.unique(sides):
            rows = np.flatnonzero(sides == side)
            stamps = self.triplets[rows, :, :side, :side]
            change(stamps)
            out[rows] = normalise_triplets(stamps, spec)
        if not geometry_of(self.survey).flips_negative:
            out[self.text("isNegative") == "True", 2] *= -1
        return out


def read_labelled(folder: Path, survey: str) -> Labelled:
    """Read a survey's stamps and table.

    Raises
    ------
    FileNotFoundError
        Where the folder lacks one of the two files.
    ValueError
        Where a stamp has no row in the table.
    """
    with np.load(folder / f"{survey}.npz", allow_pickle=False) as arrays:
        ids, triplets, shapes = arrays["id"], arrays["triplets"], arrays["shape"]
    with (folder / f"{survey}.csv").open(newline="") as table:
        rows = {int(row[ID_COLUMNS[survey]]): row for row in csv.DictReader(table)}
    missing = [int(i) for i in ids if int(i) not in rows]
    if missing:
        raise ValueError(f"{folder / survey}.csv has no row for id {missing[0]} ({len(missing)} missing)")
    names = next(iter(rows.values())).keys()
    columns = {name: [rows[int(i)][name] for i in ids] for name in names}
    return Labelled(survey, triplets.astype(np.float32), shapes.astype(np.int64), columns)
