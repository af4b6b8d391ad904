"""Score a bundle on simulated surveys it never saw and, where there are any, on labelled real stamps.

``python -m space2vec.training.evaluate --bundle core --stamps FOLDER --json``
"""

from __future__ import annotations

import sys
from functools import partial
from itertools import pairwise
from json import dump
from pathlib import Path

import cyclopts
import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from space2vec.training.dataset import GROUPS, STAMP_SIZES, Examples, prepare
from space2vec.training.invariance import invariances
from space2vec.training.labelled import Labelled, read_labelled
from space2vec.training.metrics import OPERATING_FPR, performance, threshold_at
from space2vec.training.simulate import generate
from space2vec.workers.backends import Backend, open_backend
from space2vec.workers.bundle import load_bundle
from space2vec.workers.manifest import InputSpec

Found = dict[str, JsonValue]
Logits = NDArray[np.float32]

SNR_EDGES = (5.0, 6.0, 8.0, 12.0, 25.0, np.inf)
BATCH = 512
UNTOUCHED = 1200
"""How many real stamps without missing pixels to try invariances on."""
SEED = 2_000_003
"""Seed of the simulated test set; training and calibration draw from others, so no field is shared."""


def logits(backend: Backend, inputs: NDArray[np.float32]) -> Logits:
    """Score network inputs in batches; calibrated logits, ``(N,)`` float32."""
    parts = [backend.score(inputs[i : i + BATCH]).logit for i in range(0, len(inputs), BATCH)]
    return np.asarray(np.concatenate(parts), np.float32)


def on_simulated(backend: Backend, spec: InputSpec, survey: str, count: int, seed: int = SEED) -> Found:
    """Evaluate on ``count`` simulated candidates: overall, by S/N, by kind and by cause."""
    candidates = generate(survey, count, seed, size=STAMP_SIZES[survey][1])
    examples = prepare(candidates, spec, np.random.default_rng([seed, count]), accidents=False)
    logit = logits(backend, examples.inputs.astype(np.float32))
    counted = examples.counted
    threshold = threshold_at(logit[counted], examples.real[counted])
    return {
        "overall": dict(performance(logit[counted], examples.real[counted]).rounded()),
        "threshold": round(threshold, 4),
        "by_snr": by_snr(examples, logit > threshold),
        "passed": passed(examples, logit > threshold),
    }


def by_snr(examples: Examples, above: NDArray[np.bool_]) -> Found:
    """Completeness and false-positive rate at the threshold, by bin of signal to noise."""
    found: Found = {}
    for low, high in pairwise(SNR_EDGES):
        inside = examples.counted & (examples.snr >= low) & (examples.snr < high)
        real, bogus = inside & examples.real, inside & ~examples.real
        if real.any() and bogus.any():
            found[f"{low:g} to {high:g}"] = {
                "real": int(real.sum()),
                "bogus": int(bogus.sum()),
                "completeness": round(float(above[real].mean()), 4),
                "fpr": round(float(above[bogus].mean()), 4),
            }
    return found


def passed(examples: Examples, above: NDArray[np.bool_]) -> Found:
    """Fraction of each kind and cause above the threshold: what to keep, then what to reject."""
    found: Found = {}
    for number, name in enumerate(GROUPS):
        chosen = examples.group == number
        if chosen.any():
            found[name] = {"count": int(chosen.sum()), "passed": round(float(above[chosen].mean()), 4)}
    return found


def on_ztf(backend: Backend, spec: InputSpec, labelled: Labelled) -> Found:
    """Agreement with ``drb`` on real ZTF alerts, beside ZTF's own random forest; recall of asteroids.

    The labels are another network's scores, so this is agreement and not truth. Known asteroids
    (within 2 arcsec) are the one label here that no classifier made. Also how steady scores are.
    """
    logit = logits(backend, labelled.inputs(spec))
    label, forest = labelled.numbers("label_drb"), labelled.numbers("rb")
    sure = (label > 0.9) | (label < 0.1)
    asteroid = (labelled.numbers("ssdistnr") >= 0) & (labelled.numbers("ssdistnr") < 2)
    compared = sure & np.isfinite(forest)
    found: Found = {
        "drb > 0.9 against < 0.1": _measured(logit[sure], label[sure] > 0.5),
        "the same, ZTF's rb instead": _measured(forest[compared].astype(np.float32), label[compared] > 0.5),
        "known asteroids against drb < 0.1": _measured(
            logit[asteroid | (label < 0.1)], asteroid[asteroid | (label < 0.1)]
        ),
    }
    sources = labelled.text("label_source")
    for source in np.unique(sources):
        chosen = sure & (sources == source)
        found[f"labels from: {source}"] = _measured(logit[chosen], label[chosen] > 0.5)
    whole = np.flatnonzero(np.isfinite(labelled.triplets).all((1, 2, 3)))[:UNTOUCHED]
    found["invariance"] = invariances(partial(logits, backend), spec, labelled.triplets[whole])
    return found


def on_lsst(backend: Backend, spec: InputSpec, labelled: Labelled) -> Found:
    """Agreement with ``reliability`` on real LSST packets, by epoch; few, and not truth either."""
    logit = logits(backend, labelled.inputs(spec))
    label, epoch = labelled.numbers("reliability"), labelled.text("epoch")
    sure = (label > 0.9) | (label < 0.3)
    found: Found = {"reliability > 0.9 against < 0.3": _measured(logit[sure], label[sure] > 0.5)}
    for name in np.unique(epoch):
        chosen = sure & (epoch == name)
        found[f"epoch: {name}"] = _measured(logit[chosen], label[chosen] > 0.5)
    return found


def _measured(logit: Logits, real: NDArray[np.bool_]) -> Found:
    if real.all() or not real.any():
        return {"real": int(real.sum()), "bogus": int((~real).sum())}
    found = performance(logit, real).rounded()
    del found["ece"]  # the share of real ones is the sample's, not the training's
    return dict(found)


def evaluate(name: str, count: int, stamps: Path | None, console: Console) -> Found:
    """Evaluate a bundle; the real stamps only where ``stamps`` has them."""
    bundle = load_bundle(name)
    backend, spec = open_backend(bundle, "cpu"), bundle.manifest.input
    simulated: Found = {}
    for survey in STAMP_SIZES:
        console.print(f"simulating {count} {survey} candidates")
        simulated[survey] = on_simulated(backend, spec, survey, count)
    real: Found = {}
    for survey, judge in (("ztf", on_ztf), ("lsst", on_lsst)):
        if stamps is not None and (stamps / f"{survey}.npz").is_file():
            console.print(f"reading real {survey} stamps")
            real[survey] = judge(backend, spec, read_labelled(stamps, survey))
    return {"bundle": bundle.manifest.name, "sha256": bundle.sha256, "simulated": simulated, "real": real}


def table(found: Found) -> Table:
    """The headline figures as a table."""
    page = Table("what", "real", "bogus", "AUC", "95 %", f"missed at {OPERATING_FPR:.1%} FPR")

    def row(what: str, part: JsonValue) -> None:
        if isinstance(part, dict) and "auc" in part:
            interval = f"{part['auc_low']:.4f} to {part['auc_high']:.4f}"
            page.add_row(
                what,
                str(part["real"]),
                str(part["bogus"]),
                f"{part['auc']:.4f}",
                interval,
                f"{part['mdr']:.1%}",
            )

    simulated, real = found["simulated"], found["real"]
    assert isinstance(simulated, dict)
    assert isinstance(real, dict)
    for survey, part in simulated.items():
        assert isinstance(part, dict)
        row(f"simulated {survey}", part["overall"])
    for survey, part in real.items():
        assert isinstance(part, dict)
        for what, measured in part.items():
            row(f"real {survey}: {what}", measured)
    return page


def main(*, bundle: str = "core", stamps: Path | None = None, count: int = 6000, json: bool = False) -> None:
    """Evaluate a bundle.

    Parameters
    ----------
    bundle
        Name of a shipped bundle, or a folder.
    stamps
        Folder with real stamps and labels (``ztf.npz`` and ``ztf.csv``, the same for ``lsst``).
    count
        Simulated candidates per survey.
    json
        Print everything as JSON on standard output instead of a table.
    """
    found = evaluate(bundle, count, stamps, Console(stderr=True))
    if json:
        dump(found, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        Console().print(table(found))


if __name__ == "__main__":
    cyclopts.run(main)
