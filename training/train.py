"""Train the small ``core`` network, or an ensemble of such, on simulated surveys and labelled real alerts.

``python -m space2vec.training.train --stamps FOLDER --out workers/bundles/core``, and with ``--members 2`` for ``pair``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from scipy.special import expit
from torch import nn

from space2vec.training.calibrate import calibrate
from space2vec.training.card import Report
from space2vec.training.command import run
from space2vec.training.dataset import STAMP_SIZES, Examples, befall, join, prepare
from space2vec.training.fit import score
from space2vec.training.kept import kept_table
from space2vec.training.labelled import read_labelled
from space2vec.training.member import ARCHITECTURE, OUTPUTS, REAL_SURVEYS, SPEC, Member, fit_member
from space2vec.training.metrics import OPERATING_FPR, Performance, performance
from space2vec.training.recipe import Recipe
from space2vec.training.simulate import generate, simulators
from space2vec.training.tiers import label
from space2vec.training.watch import reference
from space2vec.workers.export import write_bundle
from space2vec.workers.manifest import Architecture, Calibration, Counted, Manifest, Outputs
from space2vec.workers.networks import ENSEMBLE, Ensemble, build_network

TEST_SEED = 1_000_003
"""Added to the seed for the held-out fields, which thus share nothing with those trained on."""

SHIPPED = Recipe()
NAMES = {1: "core", 2: "pair"}
"""Names of the shipped bundles, by how many networks they are of."""


def simulate_examples(
    count: int,
    seed: int,
    progress: Progress,
    *,
    accidents: bool,
    processes: int = 1,
    kept: Path | None = None,
) -> dict[str, Examples]:
    """Simulate ``count`` candidates of each survey and prepare them; take from ``kept`` what is there."""
    sets = {}
    for survey, (_, size) in STAMP_SIZES.items():
        bar = progress.add_task(f"simulating {survey}", total=count)
        moved = partial(_move, progress, bar)

        def make(survey: str = survey, size: int = size, moved: Callable[[int], None] = moved) -> Examples:
            candidates = generate(survey, count, seed, size=size, processes=processes, progress=moved)
            return prepare(candidates, SPEC, np.random.default_rng([seed, count]), accidents=accidents)

        sets[survey] = kept_table(kept / f"{survey}-{seed}-{count}.npz" if kept else None, Examples, make)
        moved(count)
    return sets


def _move(progress: Progress, bar: TaskID, done: int) -> None:
    progress.update(bar, completed=done)


def golden_stamps(seed: int) -> NDArray[np.float32]:
    """Stamps for the bundle's golden vectors, ``(12, 3, 63, 63)`` float32: half real, some damaged."""
    candidates = generate("ztf", 200, seed)
    rng = np.random.default_rng(seed)
    rows = np.concatenate([np.flatnonzero(candidates.real)[:6], np.flatnonzero(~candidates.real)[:6]])
    stamps: NDArray[np.float32] = candidates.stamps[rows].copy()
    befall(stamps[::3], rng)
    stamps[5, :, :, 40:] = np.nan
    stamps[11, 1] = np.nan
    return stamps


def train(
    recipe: Recipe,
    out: Path,
    *,
    version: str,
    processes: int,
    ray_address: str | None = None,
    console: Console,
    stamps: Path | None = None,
    kept: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Report:
    """Simulate, train, fine-tune where there are real stamps, calibrate, test, and write the bundle with its card."""
    architecture, outputs = shape(recipe.members)
    build_network(architecture, SPEC, outputs)  # refuses now what it would refuse after all the work
    began, cpu = time.monotonic(), time.process_time()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        with simulators(processes, ray_address) as at_once:
            sets = simulate_examples(
                recipe.count, recipe.seed, progress, accidents=True, processes=at_once, kept=kept
            )
            held_out = simulate_examples(
                recipe.held_out,
                recipe.seed + TEST_SEED,
                progress,
                accidents=False,
                processes=at_once,
                kept=kept,
            )
        examples = join(list(sets.values()))
        seeds = range(recipe.seed, recipe.seed + recipe.members)
        members = [
            fit_member(
                recipe,
                seed,
                examples,
                progress,
                name=f"network {number} of {recipe.members}, " if recipe.members > 1 else "",
                device=device,
                stamps=stamps,
                kept=kept,
            )
            for number, seed in enumerate(seeds, 1)
        ]
    network = together(members)
    logits = {survey: score(network, held.inputs) for survey, held in held_out.items()}
    temperature, points = calibrate(*_half(logits, held_out))
    report = Report(
        recipe=asdict(recipe),
        examples=len(examples),
        seen=seen_alerts(stamps) if stamps is not None else (),
        prior=float(examples.real[examples.counted].mean()),
        digest=digest(examples, members),
        losses=[member.losses for member in members],
        temperature=temperature,
        points=points,
        held_out={
            survey: performance_on_rest(logits[survey] / np.float32(temperature), held)
            for survey, held in held_out.items()
        },
        device=device,
        wall_s=time.monotonic() - began,
        cpu_s=time.process_time() - cpu,
    )
    manifest = Manifest(
        name=NAMES.get(recipe.members, f"ensemble-{recipe.members}"),
        version=version,
        description=report.description,
        architecture=architecture,
        input=SPEC,
        outputs=outputs,
        calibration=Calibration(temperature=temperature),
        operating_points=points,
        training=report.summary(),
        reference=references(stamps, network, temperature) if stamps is not None else {},
    )
    write_bundle(out, manifest, network, golden_stamps(recipe.seed + 2 * TEST_SEED))
    (out / "card.md").write_text(report.card(manifest))
    return report


def shape(members: int) -> tuple[Architecture, Outputs]:
    """Architecture and outputs of a bundle of so many networks."""
    if members == 1:
        return ARCHITECTURE, OUTPUTS
    parameters = {"members": members, "of": ARCHITECTURE.model_dump(mode="json")}
    return Architecture(kind=ENSEMBLE, parameters=parameters), OUTPUTS.model_copy(update={"spread": True})


def together(members: Sequence[Member]) -> nn.Module:
    """The one network, or the ensemble of several."""
    if len(members) == 1:
        return members[0].network
    return Ensemble([member.network for member in members]).eval()


def digest(examples: Examples, members: Sequence[Member]) -> str:
    """SHA-256 of the training set: of the simulated candidates' and, where there were any, each second training's."""
    second = [member.tuning for member in members if member.tuning is not None]
    if not second:
        return examples.digest()
    return hashlib.sha256(" ".join([examples.digest(), *second]).encode()).hexdigest()


def references(stamps: Path, network: nn.Module, temperature: float) -> dict[str, dict[str, Counted]]:
    """By survey, the real alerts against which drift is measured."""

    def probability(inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(expit(score(network, inputs) / np.float64(temperature)))

    return {survey: reference(read_labelled(stamps, survey), SPEC, probability) for survey in REAL_SURVEYS}


def seen_alerts(stamps: Path) -> tuple[tuple[str, int], ...]:
    """How many real alerts of each survey were trained on."""
    counts = []
    for survey in REAL_SURVEYS:
        labels = label(read_labelled(stamps, survey))
        counts.append((survey, int(((labels.weight > 0) & ~labels.held_out).sum())))
    return tuple(counts)


def _half(
    logits: dict[str, NDArray[np.float32]], held_out: dict[str, Examples]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Every other held-out candidate of all surveys, for calibration: logits and labels."""
    rows = {survey: np.flatnonzero(held.counted)[::2] for survey, held in held_out.items()}
    return (
        np.concatenate([logits[survey][chosen] for survey, chosen in rows.items()]),
        np.concatenate([held_out[survey].real[chosen] for survey, chosen in rows.items()]),
    )


def performance_on_rest(logit: NDArray[np.float32], held: Examples) -> Performance:
    """Performance on the held-out candidates that did not set the temperature."""
    rows = np.flatnonzero(held.counted)[1::2]
    return performance(logit[rows], held.real[rows])


def main(
    *,
    out: Path,
    stamps: Path | None = None,
    version: str = "3",
    recipe: Annotated[Recipe, cyclopts.Parameter(name="*")] = SHIPPED,
    kept: Path | None = None,
    processes: int = 2,
    ray_address: str | None = None,
    threads: int = 2,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Train the core network, or several, on simulated surveys, then on real alerts as well, and write the bundle.

    Parameters
    ----------
    out
        Folder of the bundle; what is there is replaced.
    stamps
        Folder with labelled real stamps (``ztf.npz`` and ``ztf.csv``, the same for ``lsst``). Without it the
        network sees simulated sky only.
    version
        Version that annotations will carry.
    recipe
        What decides the weights.
    kept
        Folder where a run leaves its simulated candidates, and the network before it saw real alerts; a later
        one of the same settings takes them from there. Empty it when the simulator has changed.
    processes
        Processes that simulate: 1 is this one, more are on a Ray started here until all is simulated.
    ray_address
        Ray cluster to join, which simulates on all its CPUs instead; none: --processes here.
    threads
        Threads that train.
    device
        What trains: ``auto`` is a GPU where torch finds one.
    """
    torch.set_num_threads(threads)
    console = Console(stderr=True)
    if stamps is None:
        console.print(
            "no --stamps: training on simulated sky only, so the bundle will know real alerts less well"
        )
    report = train(
        recipe,
        out,
        version=version,
        processes=processes,
        ray_address=ray_address,
        console=console,
        stamps=stamps,
        kept=kept,
        device=("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device,
    )
    for survey, found in report.held_out.items():
        console.print(
            f"{survey}: AUC {found.auc:.4f}, {found.mdr:.1%} missed at {OPERATING_FPR:.1%} false positives"
        )
    console.print(f"bundle written to {out}")


if __name__ == "__main__":
    run(main)
