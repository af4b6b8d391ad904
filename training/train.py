"""Train the small ``core`` network on simulated surveys and labelled real alerts, and write its bundle.

``python -m space2vec.training.train --stamps FOLDER --out workers/bundles/core``
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from scipy.special import expit
from torch import nn

from space2vec.training.calibrate import calibrate
from space2vec.training.card import Report
from space2vec.training.causes import CAUSES
from space2vec.training.dataset import STAMP_SIZES, Examples, befall, join, prepare
from space2vec.training.events import KINDS
from space2vec.training.fit import Schedule, fit, score
from space2vec.training.kept import kept_table
from space2vec.training.labelled import read_labelled
from space2vec.training.metrics import OPERATING_FPR, Performance, performance
from space2vec.training.recipe import Recipe
from space2vec.training.simulate import generate
from space2vec.training.symmetry import settle, symmetrise
from space2vec.training.tiers import label, real_examples
from space2vec.training.watch import reference
from space2vec.workers.export import write_bundle
from space2vec.workers.manifest import Architecture, Calibration, Counted, InputSpec, Manifest, Outputs
from space2vec.workers.networks import Core, build_network

SPEC = InputSpec(size=31, missing_pixel="interpolated")
ARCHITECTURE = Architecture(kind="core", parameters={"width": 16, "growth": [3, 6], "pool": 3})
OUTPUTS = Outputs(embedding=64, kinds=KINDS[1:], causes=CAUSES[1:])
TEST_SEED = 1_000_003
"""Added to the seed for the held-out fields, which thus share nothing with those trained on."""

REAL_SURVEYS = ("ztf", "lsst")

SHIPPED = Recipe()


def new_network(seed: int) -> Core:
    """Build the network with symmetric weights drawn anew."""
    torch.manual_seed(seed)
    network = build_network(ARCHITECTURE, SPEC, OUTPUTS)
    assert isinstance(network, Core)
    symmetrise(network.stages)
    return network


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


def fine_tuning_set(stamps: Path, simulated: Examples, recipe: Recipe) -> Examples:
    """Real alerts that are not held out, and the simulated candidates lest they be forgotten."""
    rng = np.random.default_rng([recipe.seed, 11])
    real = [real_examples(read_labelled(stamps, name), SPEC, recipe.copies, rng) for name in REAL_SURVEYS]
    return join([simulated, *real])


def fit_with_bar(
    network: nn.Module, examples: Examples, schedule: Schedule, progress: Progress, name: str
) -> list[float]:
    """`fit`, with a progress bar."""
    bar = progress.add_task(name, total=schedule.epochs * (len(examples) // schedule.batch))

    def moved(step: int, loss: float) -> None:
        progress.update(bar, completed=step, description=f"{name}: loss {loss:.3f}")

    return fit(network, examples, schedule, moved)


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
    console: Console,
    stamps: Path | None = None,
    kept: Path | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Report:
    """Simulate, train, fine-tune where there are real stamps, calibrate, test, and write the bundle with its card."""
    began, cpu = time.monotonic(), time.process_time()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        sets = simulate_examples(
            recipe.count, recipe.seed, progress, accidents=True, processes=processes, kept=kept
        )
        held_out = simulate_examples(
            recipe.held_out,
            recipe.seed + TEST_SEED,
            progress,
            accidents=False,
            processes=processes,
            kept=kept,
        )
        examples = join(list(sets.values()))
        network = new_network(recipe.seed).to(device)
        cycle = recipe.cycle if stamps is not None else 0
        schedule = Schedule(recipe.epochs, recipe.batch, recipe.rate, recipe.seed, cycle, recipe.bfloat16)
        losses = pretrain(
            network, examples, schedule, progress, kept / "pretrained.safetensors" if kept else None
        )
        digest = examples.digest()
        if stamps is not None:
            tuning = fine_tuning_set(stamps, examples, recipe)
            schedule = Schedule(
                recipe.real_epochs,
                recipe.batch,
                recipe.real_rate,
                recipe.seed + 1,
                bfloat16=recipe.bfloat16,
            )
            losses += fit_with_bar(network, tuning, schedule, progress, "fine-tuning")
            digest = hashlib.sha256(f"{digest} {tuning.digest()}".encode()).hexdigest()
    settle(network.cpu().stages)
    logits = {survey: score(network, held.inputs) for survey, held in held_out.items()}
    temperature, points = calibrate(*_half(logits, held_out))
    report = Report(
        recipe=asdict(recipe),
        examples=len(examples),
        seen=seen_alerts(stamps) if stamps is not None else (),
        prior=float(examples.real[examples.counted].mean()),
        digest=digest,
        losses=losses,
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
        name="core",
        version=version,
        description=f"Real or bogus from the 31 x 31 pixels around the source, for ZTF, DES and LSST alike; {report.data}.",
        architecture=ARCHITECTURE,
        input=SPEC,
        outputs=OUTPUTS,
        calibration=Calibration(temperature=temperature),
        operating_points=points,
        training=report.summary(),
        reference=references(stamps, network, temperature) if stamps is not None else {},
    )
    write_bundle(out, manifest, network, golden_stamps(recipe.seed + 2 * TEST_SEED))
    (out / "card.md").write_text(report.card(manifest))
    return report


def pretrain(
    network: nn.Module, examples: Examples, schedule: Schedule, progress: Progress, checkpoint: Path | None
) -> list[float]:
    """Fit to the simulated candidates, or take what an earlier run of the same schedule left in ``checkpoint``."""
    mark = hashlib.sha256(f"{examples.digest()} {schedule}".encode()).hexdigest()
    if checkpoint is not None and checkpoint.is_file():
        with safetensors.safe_open(checkpoint, "pt") as kept:
            told = kept.metadata() or {}
        if told.get("mark") == mark:
            network.load_state_dict(safetensors.torch.load_file(checkpoint))
            return [float(loss) for loss in told["losses"].split()]
    losses = fit_with_bar(network, examples, schedule, progress, "training")
    if checkpoint is not None:
        state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
        told = {"mark": mark, "losses": " ".join(str(loss) for loss in losses)}
        safetensors.torch.save_file(state, checkpoint, told)
    return losses


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
    threads: int = 2,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Train the core network on simulated surveys, fine-tune it on real alerts, and write its bundle.

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
        Processes that simulate.
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
    cyclopts.run(main)
