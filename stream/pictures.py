"""Pictures of alerts: a triplet as one image, many of them as a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from space2vec.schemas.alert import Plane

Stamps = Mapping[Plane, NDArray[np.float32]]

PAPER: Final = (250, 250, 247)
INK: Final = (30, 30, 34)
FAINT: Final = (120, 120, 126)
NO_PIXEL: Final = np.array([196, 78, 62], np.uint8)
"""Colour of a pixel that is not there: nothing in a grey stamp can be mistaken for it."""
NO_STAMP: Final = (225, 222, 216)
SOFTENING: Final = 3.0
"""Where the asinh turns from linear to logarithmic, in sigma of the background (Lupton et al. 2004)."""


@dataclass(frozen=True, slots=True)
class Card:
    """One alert of a contact sheet.

    Attributes
    ----------
    caption : str
        What is said below the stamps; lines part at newlines.
    stamps : mapping of Plane to array
        ``(rows, cols)`` float32 each; a missing plane stays empty.
    faults : mapping of Plane to str
        Why a plane is missing, in a few words.
    """

    caption: str
    stamps: Stamps = field(repr=False)
    faults: Mapping[Plane, str] = field(default_factory=dict)


def stretch(stamp: NDArray[np.float32], *, symmetric: bool = False) -> NDArray[np.uint8]:
    """Bring a stamp to grey levels by an asinh stretch.

    Parameters
    ----------
    stamp : (rows, cols) float32
        NaN where there is no pixel.
    symmetric : bool
        Put zero at mid-grey, as for a difference, rather than the sky near black.

    Returns
    -------
    (rows, cols, 3) uint8
        Missing pixels in :data:`NO_PIXEL`.
    """
    there = np.isfinite(stamp)
    rgb = np.empty((*stamp.shape, 3), np.uint8)
    rgb[:] = NO_PIXEL
    if not there.any():
        return rgb
    pixels = stamp[there].astype(np.float64)
    sky = 0.0 if symmetric else float(np.median(pixels))
    sigma = 1.4826 * float(np.median(np.abs(pixels - np.median(pixels)))) or float(np.std(pixels)) or 1.0
    levels = np.arcsinh((pixels - sky) / (SOFTENING * sigma))
    if symmetric:
        top = max(float(np.abs(levels).max()), 1.5)
        bottom = -top
    else:
        top, bottom = max(float(np.quantile(levels, 0.999)), 1.0), -0.7
    grey = np.clip((levels - bottom) / (top - bottom), 0.0, 1.0)
    rgb[there] = np.rint(255 * grey).astype(np.uint8)[:, None]
    return rgb


def triplet_picture(card: Card, *, title: str = "", side: int = 240) -> Image.Image:
    """Draw science, template and difference side by side, rows counted upwards as in FITS.

    Parameters
    ----------
    card : Card
        The alert; its caption goes below.
    title : str
        Line above.
    side : int
        Pixels of one panel.
    """
    gap, font, small = side // 16, ImageFont.load_default(side / 16), ImageFont.load_default(side / 19)
    line = round(side / 12)
    lines = card.caption.splitlines()
    top = gap + (line + gap // 2 if title else 0)
    size = (3 * side + 4 * gap, top + side + line * (1 + len(lines)) + gap)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((gap, gap // 2), title, INK, font)
    for i, plane in enumerate(Plane):
        left = gap + i * (side + gap)
        picture.paste(_panel(card, plane, side, small), (left, top))
        stamp = card.stamps.get(plane)
        label = f"{plane}   {stamp.shape[0]} x {stamp.shape[1]}" if stamp is not None else str(plane)
        draw.text((left, top + side + 2), label, FAINT, small)  # the font has ASCII only: no "×"
    for i, text in enumerate(lines):
        draw.text((gap, top + side + line * (1 + i) + 4), text, INK, small)
    return picture


def contact_sheet(
    sections: Sequence[tuple[str, Sequence[Card]]], *, columns: int = 4, side: int = 96
) -> Image.Image:
    """Draw titled sections of alerts, ``columns`` triplets in a row.

    Parameters
    ----------
    sections : sequence of (title, cards)
        Sections without cards are left out.
    columns : int
        Triplets in a row.
    side : int
        Pixels of one stamp.
    """
    gap, line = 14, 15
    heading, small = ImageFont.load_default(18), ImageFont.load_default(12)
    shown = [(title, cards) for title, cards in sections if cards]
    captions = max((card.caption.count("\n") + 1 for _, cards in shown for card in cards), default=1)
    cell_width, cell_height = 3 * side + 4, side + captions * line + 6
    rows = [-(-len(cards) // columns) for _, cards in shown]
    height = gap + sum(34 + count * (cell_height + gap) for count in rows)
    picture = Image.new("RGB", (gap + columns * (cell_width + gap), max(height, 40)), PAPER)
    draw = ImageDraw.Draw(picture)
    top = gap
    for (title, cards), count in zip(shown, rows, strict=True):
        draw.text((gap, top), title, INK, heading)
        top += 34
        for i, card in enumerate(cards):
            x = gap + (i % columns) * (cell_width + gap)
            y = top + (i // columns) * (cell_height + gap)
            for j, plane in enumerate(Plane):
                picture.paste(_panel(card, plane, side, small), (x + j * (side + 2), y))
            draw.multiline_text((x, y + side + 3), card.caption, INK, small, spacing=2)
        top += count * (cell_height + gap)
    return picture


def _panel(
    card: Card, plane: Plane, side: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> Image.Image:
    stamp = card.stamps.get(plane)
    if stamp is None or not stamp.size:
        panel = Image.new("RGB", (side, side), NO_STAMP)
        text = card.faults.get(plane, "no stamp").replace("_", " ").replace(": ", "\n")
        ImageDraw.Draw(panel).multiline_text(
            (side // 2, side // 2), text, FAINT, font, anchor="mm", align="center"
        )
        return panel
    grey = stretch(stamp, symmetric=plane is Plane.DIFFERENCE)
    picture = Image.fromarray(np.ascontiguousarray(grey[::-1]))
    scale = side / max(stamp.shape)
    panel = Image.new("RGB", (side, side), NO_STAMP)
    shape = (max(1, round(stamp.shape[1] * scale)), max(1, round(stamp.shape[0] * scale)))
    panel.paste(picture.resize(shape, Image.Resampling.NEAREST), (0, side - shape[1]))
    return panel
