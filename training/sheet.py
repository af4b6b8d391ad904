"""Sample sheet: a few triplets of every kind of event and every cause of artefact, to be looked at.

``python -m space2vec.training.sheet --survey ztf --out ztf.png``
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from space2vec.training.causes import CAUSES
from space2vec.training.command import run
from space2vec.training.events import KINDS
from space2vec.training.simulate import Candidates, generate

CELL, GAP, LABEL = 66, 2, 110
"""Pixels: side of a drawn stamp, space between two, width of the row labels."""

PER_ROW = 6


def grey(plane: NDArray[np.float32], *, signed: bool) -> NDArray[np.uint8]:
    """Stretch a plane for the eye, ``(S, S)`` uint8; pixels without a value are mid-grey.

    Parameters
    ----------
    plane : (S, S) float32
        NaN where there is no pixel.
    signed : bool
        Linear about zero, as a difference is looked at; otherwise arcsinh from the sky up.
    """
    finite = plane[np.isfinite(plane)]
    if finite.size == 0:
        return np.full(plane.shape, 128, np.uint8)
    median = float(np.median(finite))
    noise = max(float(1.4826 * np.median(np.abs(finite - median))), 1e-9)
    if signed:
        span = max(5 * noise, float(np.percentile(np.abs(finite), 99.8)))
        shade = 0.5 + 0.5 * plane / span
    else:
        low, high = median - 2 * noise, max(median + 8 * noise, float(np.percentile(finite, 99.7)))
        shade = np.arcsinh((plane - low) / (3 * noise)) / np.arcsinh((high - low) / (3 * noise))
    return np.asarray(255 * np.clip(np.nan_to_num(shade, nan=0.5), 0, 1), np.uint8)


def draw(candidates: Candidates, per_row: int = PER_ROW) -> Image.Image:
    """Draw a row of triplets for each kind and each cause that occurs."""
    rows = [(KINDS[k], candidates.real & (candidates.kind == k)) for k in range(1, len(KINDS))]
    rows += [(CAUSES[c], candidates.cause == c) for c in range(1, len(CAUSES))]
    rows = [(name, chosen) for name, chosen in rows if chosen.any()]
    width = LABEL + per_row * (3 * CELL + 3 * GAP)
    page = Image.new("L", (width, len(rows) * (CELL + 14)), 255)
    pen = ImageDraw.Draw(page)
    rng = np.random.default_rng(0)
    for row, (name, chosen) in enumerate(rows):
        top = row * (CELL + 14)
        pen.text((4, top + CELL // 2), f"{name} ({int(chosen.sum())})", fill=0)
        for column, i in enumerate(rng.permutation(np.flatnonzero(chosen))[:per_row]):
            left = LABEL + column * (3 * CELL + 3 * GAP)
            for plane in range(3):
                picture = Image.fromarray(grey(candidates.stamps[i, plane][::-1], signed=plane == 2))
                page.paste(
                    picture.resize((CELL, CELL), Image.Resampling.NEAREST), (left + plane * (CELL + 1), top)
                )
            sign = "-" if candidates.negative[i] else ""
            pen.text((left, top + CELL), f"{sign}{candidates.snr[i]:.0f} sigma", fill=0)
    return page


def main(
    *,
    survey: str = "ztf",
    out: Path = Path("sheet.png"),
    count: Annotated[int, cyclopts.Parameter(help="candidates to draw from")] = 2500,
    size: int | None = None,
    seed: int = 3,
) -> None:
    """Simulate a survey and draw its sample sheet."""
    draw(generate(survey, count, seed, size=size)).save(out)


if __name__ == "__main__":
    run(main)
