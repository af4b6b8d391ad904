"""What the demo shows at the end: a table, a grade against the truth, a contact sheet."""

from __future__ import annotations

from dataclasses import asdict
from io import StringIO
from typing import Final

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from space2vec.schemas.alert import Plane
from space2vec.stream.demo import Result
from space2vec.stream.pictures import Card, contact_sheet
from space2vec.stream.poison import Poison
from space2vec.stream.reconcile import Place
from space2vec.stream.simulated import SURVEYS, SimulatedAlert

SHOWN: Final = 8
"""Alerts in a section of the contact sheet."""
MEANING: Final = {
    "published": "messages put on the two input topics",
    "consumed": "messages answered, by the application's own count",
    "scored": "alerts scored",
    "degraded": "alerts scored with a flag on their stamps",
    "rejected": "dead letters; the broken messages, published on purpose",
    "annotated": "annotated alerts read back",
    "lost": "published, but never answered",
    "duplicated": "answered more than once",
    "alerts_per_s": "rate, after start-up",
    "latency_p50_s": "seconds from published to read back, in one burst: median",
    "latency_p99_s": "the same, 99th percentile",
}


def table(result: Result) -> str:
    """Give the accounts as a table."""
    drawn = Table(show_header=False, box=None, pad_edge=False)
    drawn.add_column(justify="left")
    drawn.add_column(justify="right")
    drawn.add_column(justify="left")
    for name, value in asdict(result.totals).items():
        drawn.add_row(name, str(value), MEANING[name])
    console = Console(file=StringIO(), width=100)
    console.print(drawn)
    written = console.file
    assert isinstance(written, StringIO)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines())


def grade(result: Result) -> str:
    """Say how the scores compare with the simulated truth, and why messages were rejected."""
    graded = [
        (result.scores[place], sent.real)
        for place, sent in result.sent.items()
        if isinstance(sent, SimulatedAlert) and place in result.scores
    ]
    score = np.array([s for s, _ in graded])
    real = np.array([r for _, r in graded], bool)
    reasons = sorted(set(result.reasons.values()))
    return (
        f"against the simulated truth: AUC {area(score, real):.3f}; above 0.5 are "
        f"{_share(score[real] > 0.5)} of the real and {_share(score[~real] > 0.5)} of the bogus\n"
        f"rejected as they should be: {', '.join(reasons)}"
    )


def area(score: np.ndarray, real: np.ndarray) -> float:
    """Area under the ROC curve by the rank sum (Mann and Whitney 1947), ties at half; NaN with one class only."""
    positives, negatives = int(real.sum()), int((~real).sum())
    if not positives or not negatives:
        return float("nan")
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    return float((rank[group][real].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def sheet(result: Result) -> Image.Image:
    """Draw the best candidates of each survey, the least likely ones, and what was rejected."""
    scored = sorted(result.scores.items(), key=lambda item: item[1], reverse=True)
    sections: list[tuple[str, list[Card]]] = []
    for survey in SURVEYS:
        best = [pair for pair in scored if result.sent[pair[0]].survey == survey][:SHOWN]
        sections.append((f"Best candidates, {survey}", [_card(result, *pair) for pair in best]))
    sections.append(("Lowest scores", [_card(result, *pair) for pair in scored[: -SHOWN - 1 : -1]]))
    rejected = [_card(result, place, None) for place in sorted(result.reasons)]
    sections.append(("Rejected", rejected))
    return contact_sheet(sections)


def _card(result: Result, place: Place, score: float | None) -> Card:
    sent = result.sent[place]
    stamps = dict(zip(Plane, sent.stamps, strict=False))
    if isinstance(sent, Poison):
        return Card(f"{sent.label}\n{result.reasons[place]}", stamps)
    truth = f"real: {sent.kind}" if sent.real else f"bogus: {sent.cause}"
    shown = f"{score:.4f}" if score is not None else result.reasons[place]
    return Card(f"{shown}   truly {truth}, S/N {sent.snr:.0f}\n{sent.survey} {sent.object_id}", stamps)


def _share(chosen: np.ndarray) -> str:
    return f"{100 * chosen.mean():.0f} %" if chosen.size else "none"
