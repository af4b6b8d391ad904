"""The report of an evaluation: Markdown with its plots, and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from space2vec.training.dataset import GROUPS
from space2vec.training.metrics import OPERATING_FPR
from space2vec.training.on_simulated import CURVE_FPR, Found

DOTS_PER_INCH = 90


def write_report(found: Found, folder: Path) -> None:
    """Write ``report.md``, ``report.json`` and the plots to ``folder``, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    _rocs(found, folder / "roc.png")
    _reliability(found, folder / "reliability.png")
    _embedding(found, folder / "embedding.png")
    (folder / "report.md").write_text("\n".join(_lines(found)) + "\n")


def _lines(found: Any) -> Iterable[str]:
    yield f"# {found['bundle']} {found['version']}"
    yield ""
    yield f"Manifest SHA-256 `{found['sha256']}`. {found['count']} simulated candidates per survey, of fields that"
    yield "neither training nor calibration saw; glints left out. Brackets: 95 % bootstrap."
    yield ""
    yield "## Against features made by hand"
    yield ""
    yield f"Missed: at {OPERATING_FPR:.1%} false positives. Baselines: mean over seeds, smallest to largest."
    yield ""
    yield from _table(["survey", "learner", "AUC", "missed", "missed / network's"], _learners(found))
    for survey, part in found["simulated"].items():
        yield ""
        yield f"## Simulated {survey.upper()}"
        yield ""
        rows = [
            [name, *_row(each, ("real", "bogus", "completeness", "fpr"))]
            for name, each in part["by_snr"].items()
        ]
        ece = {name: each["ece"] for name, each in part["reliability"].items()}
        yield from _table(
            ["S/N", "real", "bogus", "kept", "passed wrongly", "ECE"],
            [[*row, f"{ece[row[0]]:.3f}" if row[0] in ece else ""] for row in rows],
        )
        yield ""
        told = {
            **part.get("heads", {}).get("kinds", {}).get("auc", {}),
            **part.get("heads", {}).get("causes", {}).get("auc", {}),
        }
        alike = part.get("retrieval", {}).get("by_group", {})
        yield from _table(
            [
                "kind or cause",
                "count",
                "above the threshold",
                "told from its side, AUC",
                "alike among 10 nearest",
            ],
            [
                [name, each["count"], f"{each['passed']:.1%}", told.get(name, ""), _percent(alike.get(name))]
                for name, each in part["passed"].items()
            ],
        )
        yield ""
        yield from _table(
            ["operating point", "kept", "passed wrongly"],
            [
                [name, f"{each['completeness']:.1%}", f"{each['fpr']:.1%}"]
                for name, each in part["points"].items()
            ],
        )
        if "disagreement" in part:
            yield ""
            yield from _table(
                ["log-odds, magnitude", "wrong where members agree", "where they disagree"],
                [
                    [name, *(f"{half['wrong']} of {half['count']}" for half in each.values())]
                    for name, each in part["disagreement"].items()
                ],
            )
    yield ""
    yield "![ROC](roc.png)"
    yield ""
    yield "![Reliability](reliability.png)"
    yield ""
    yield "![Embedding](embedding.png)"
    for survey, part in found["real"].items():
        yield ""
        yield f"## Real {survey.upper()}"
        yield ""
        yield "Labels are other models' scores and known asteroids; see `space2vec.training.tiers`."
        yield ""
        yield from _table(
            ["set", "real", "bogus", "AUC", "missed"],
            [
                [name, each["real"], each["bogus"], _auc(each), f"{each['mdr']:.1%}"]
                for name, each in part.items()
                if "auc" in each
            ],
        )
        for name in part:
            if name.startswith(("points", "invariance", "disagreement")):
                yield ""
                yield f"{name.capitalize()}: `{json.dumps(part[name])}`"


def _learners(found: Any) -> Iterable[list[Any]]:
    for survey, part in found["simulated"].items():
        yield [survey, "network", _auc(part["overall"]), f"{part['overall']['mdr']:.1%}", ""]
        for name, each in part.get("baselines", {}).items():
            mdr = np.array(each["mdr"])
            yield [
                survey,
                f"{name}, {len(mdr)} seeds",
                f"{np.mean(each['auc']):.4f} ({min(each['auc']):.4f} to {max(each['auc']):.4f})",
                f"{mdr.mean():.1%} ({mdr.min():.1%} to {mdr.max():.1%})",
                f"{mdr.mean() / part['overall']['mdr']:.2f}",
            ]


def _auc(part: Any) -> str:
    return f"{part['auc']:.4f} ({part['auc_low']:.4f} to {part['auc_high']:.4f})"


def _row(part: Any, names: Sequence[str]) -> list[str]:
    return [f"{part[name]:.1%}" if isinstance(part[name], float) else str(part[name]) for name in names]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterable[str]:
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(str(cell) for cell in row)} |"


def _axes(found: Any) -> tuple[Figure, list[Any]]:
    surveys = found["simulated"]
    figure = Figure(figsize=(4.5 * len(surveys), 4.2), layout="constrained")
    axes = figure.subplots(1, len(surveys), squeeze=False)
    for axis, survey in zip(axes[0], surveys, strict=True):
        axis.set_title(f"simulated {survey}")
    return figure, list(axes[0])


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _rocs(found: Any, path: Path) -> None:
    figure, axes = _axes(found)
    for axis, part in zip(axes, found["simulated"].values(), strict=True):
        curves = {"network": part["roc"]} | {n: e["roc"] for n, e in part.get("baselines", {}).items()}
        for name, complete in curves.items():
            axis.loglog(CURVE_FPR, 1 - np.array(complete) + 1e-4, label=name)
        axis.axvline(OPERATING_FPR, color="grey", linewidth=0.7)
        axis.set(xlabel="bogus passed", ylabel="real missed", ylim=(1e-3, 1))
        axis.legend()
    _save(figure, path)


def _reliability(found: Any, path: Path) -> None:
    figure, axes = _axes(found)
    for axis, part in zip(axes, found["simulated"].values(), strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linewidth=0.7)
        for name, each in part["reliability"].items():
            axis.plot(each["predicted"], each["observed"], "o-", markersize=3, label=f"S/N {name}")
        axis.set(xlabel="probability told", ylabel="fraction real")
        axis.legend()
    _save(figure, path)


def _embedding(found: Any, path: Path) -> None:
    figure, axes = _axes(found)
    for axis, part in zip(axes, found["simulated"].values(), strict=True):
        if "retrieval" not in part:
            continue
        points, groups = np.array(part["retrieval"]["plane"]), np.array(part["retrieval"]["groups"])
        for number, name in enumerate(GROUPS):
            chosen = groups == number
            if chosen.any():
                colour = matplotlib.colormaps["tab20"](number % 20)
                axis.scatter(*points[chosen].T, s=7, color=colour, label=name)
        axis.set(xlabel="first component", ylabel="second component")
    shown = {
        name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=9, fontsize=8)
    _save(figure, path)
