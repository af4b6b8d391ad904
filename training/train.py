"""Train the small ``core`` network on simulated surveys and write its bundle.

``python -m space2vec.training.train --out workers/bundles/core``
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from space2vec.training.card import Report
from space2vec.training.dataset import GROUPS, STAMP_SIZES, Examples, befall, join, prepare
from space2vec.training.metrics import OPERATING_FPR, Performance, fit_temperature, performance
from space2vec.training.simulate import generate
from space2vec.workers.export import write_bundle
from space2vec.workers.manifest import Architecture, Calibration, InputSpec, Manifest, Outputs
from space2vec.workers.networks import build_network

SPEC = InputSpec(size=31)
ARCHITECTURE = Architecture(kind="core", parameters={"width": 16})
OUTPUTS = Outputs(embedding=64)
TEST_SEED = 1_000_003
"""Added to the seed for the held-out fields, which thus share nothing with those trained on."""

SMOOTHING = 0.01
GROUP_WEIGHT = 0.2
"""Weight of telling kinds and causes apart, which teaches the embedding to put like with like."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights.

    Attributes
    ----------
    count : int
        Candidates per survey to train on.
    held_out : int
        Candidates per survey to calibrate and test on.
    epochs, batch : int
        Passes over the candidates; candidates per step.
    rate : float
        Peak learning rate.
    seed : int
        Seed of the simulation and of the training.
    """

    count: int = 20_000
    held_out: int = 3_000
    epochs: int = 8
    batch: int = 128
    rate: float = 3e-3
    seed: int = 1


class Trainee(nn.Module):
    """A network with a second head, for training only, that tells kinds and causes apart."""

    def __init__(self, network: nn.Module, embedding: int) -> None:
        super().__init__()
        self.network = network
        self.groups = nn.Linear(embedding, len(GROUPS))

    def forward(self, stamps: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(N,)`` and the scores of the groups ``(N, G)``."""
        logit, embedding = self.network(stamps)
        return logit, self.groups(embedding)


def simulate_examples(
    count: int, seed: int, progress: Progress, *, accidents: bool, processes: int = 1
) -> dict[str, Examples]:
    """Simulate ``count`` candidates of each survey and prepare them."""
    sets = {}
    for survey, (_, size) in STAMP_SIZES.items():
        bar = progress.add_task(f"simulating {survey}", total=count)
        moved = partial(_move, progress, bar)
        candidates = generate(survey, count, seed, size=size, processes=processes, progress=moved)
        sets[survey] = prepare(candidates, SPEC, np.random.default_rng([seed, count]), accidents=accidents)
    return sets


def _move(progress: Progress, bar: TaskID, done: int) -> None:
    progress.update(bar, completed=done)


def augment(stamps: Tensor, rng: np.random.Generator) -> Tensor:
    """Turn a batch by one of the eight symmetries of the square, and take planes away from a few rows."""
    turned = torch.rot90(stamps, int(rng.integers(4)), (2, 3))
    if rng.random() < 0.5:
        turned = turned.flip(3)
    lost = rng.random(len(turned))
    turned = turned.clone()
    turned[torch.from_numpy(lost < 0.05), 1] = 0
    turned[torch.from_numpy(lost > 0.97), 0] = 0
    return turned


def loss_of(trainee: Trainee, stamps: Tensor, real: Tensor, group: Tensor, counted: Tensor) -> Tensor:
    """Cross-entropy of real against bogus, smoothed, plus that of the groups."""
    logit, groups = trainee(stamps)
    target = real * (1 - 2 * SMOOTHING) + SMOOTHING
    binary = nn.functional.binary_cross_entropy_with_logits(logit, target, weight=counted)
    return binary + GROUP_WEIGHT * nn.functional.cross_entropy(groups, group)


def fit(network: nn.Module, examples: Examples, recipe: Recipe, progress: Progress) -> list[float]:
    """Train ``network`` in place with AdamW on a one-cycle schedule; return the mean loss of each epoch."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng([recipe.seed, 7])
    trainee = Trainee(network, OUTPUTS.embedding).train()
    trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = len(examples) // recipe.batch
    optimiser = torch.optim.AdamW(trainee.parameters(), recipe.rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.epochs * steps, pct_start=0.2
    )
    bar = progress.add_task("training", total=recipe.epochs * steps)
    losses = []
    for epoch in range(recipe.epochs):
        total = 0.0
        for rows in np.array_split(rng.permutation(len(examples))[: steps * recipe.batch], steps):
            stamps = augment(torch.from_numpy(examples.inputs[rows].astype(np.float32)), rng)
            loss = loss_of(
                trainee,
                stamps.contiguous(memory_format=torch.channels_last),
                torch.from_numpy(examples.real[rows].astype(np.float32)),
                torch.from_numpy(examples.group[rows]),
                torch.from_numpy(examples.counted[rows].astype(np.float32)),
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
            progress.advance(bar)
        losses.append(total / steps)
        progress.update(bar, description=f"training, epoch {epoch + 1}: loss {losses[-1]:.4f}")
    network.eval()
    return losses


def score(network: nn.Module, examples: Examples) -> NDArray[np.float32]:
    """Logits of examples, ``(N,)`` float32."""
    network.eval()
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(examples), 512):
            stamps = torch.from_numpy(examples.inputs[start : start + 512].astype(np.float32))
            parts.append(network(stamps)[0].numpy())
    return np.asarray(np.concatenate(parts), np.float32)


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


def train(recipe: Recipe, out: Path, *, version: str, processes: int, console: Console) -> Report:
    """Simulate, train, calibrate, test, and write the bundle to ``out`` with its card."""
    began, cpu = time.monotonic(), time.process_time()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        sets = simulate_examples(recipe.count, recipe.seed, progress, accidents=True, processes=processes)
        examples = join(list(sets.values()))
        held_out = simulate_examples(
            recipe.held_out, recipe.seed + TEST_SEED, progress, accidents=False, processes=processes
        )
        torch.manual_seed(recipe.seed)
        network = build_network(ARCHITECTURE, SPEC, OUTPUTS.embedding)
        losses = fit(network, examples, recipe, progress)
    logits = {survey: score(network, held) for survey, held in held_out.items()}
    temperature = calibrate(logits, held_out)
    report = Report(
        recipe=asdict(recipe),
        examples=len(examples),
        prior=float(examples.real[examples.counted].mean()),
        digest=examples.digest(),
        losses=losses,
        temperature=temperature,
        held_out={
            survey: performance_on_rest(logits[survey] / np.float32(temperature), held)
            for survey, held in held_out.items()
        },
        wall_s=time.monotonic() - began,
        cpu_s=time.process_time() - cpu,
    )
    manifest = Manifest(
        name="core",
        version=version,
        description="Real or bogus from the 31 x 31 pixels around the source, for ZTF, DES and LSST alike; "
        "trained on simulated surveys only.",
        architecture=ARCHITECTURE,
        input=SPEC,
        outputs=OUTPUTS,
        calibration=Calibration(temperature=temperature),
        training=report.summary(),
    )
    write_bundle(out, manifest, network, golden_stamps(recipe.seed + 2 * TEST_SEED))
    (out / "card.md").write_text(report.card(manifest))
    return report


def calibrate(logits: dict[str, NDArray[np.float32]], held_out: dict[str, Examples]) -> float:
    """Temperature from every other held-out candidate of all surveys."""
    counted = {survey: np.flatnonzero(held.counted)[::2] for survey, held in held_out.items()}
    return fit_temperature(
        np.concatenate([logits[survey][rows] for survey, rows in counted.items()]),
        np.concatenate([held_out[survey].real[rows] for survey, rows in counted.items()]),
    )


def performance_on_rest(logit: NDArray[np.float32], held: Examples) -> Performance:
    """Performance on the held-out candidates that did not set the temperature."""
    rows = np.flatnonzero(held.counted)[1::2]
    return performance(logit[rows], held.real[rows])


def main(
    *,
    out: Path,
    version: str = "1",
    recipe: Annotated[Recipe, cyclopts.Parameter(name="*")] = Recipe(),
    processes: int = 2,
    threads: int = 2,
) -> None:
    """Train the core network on simulated surveys and write its bundle.

    Parameters
    ----------
    out
        Folder of the bundle; what is there is replaced.
    version
        Version that annotations will carry.
    recipe
        What decides the weights.
    processes
        Processes that simulate.
    threads
        Threads that train.
    """
    torch.set_num_threads(threads)
    console = Console(stderr=True)
    report = train(recipe, out, version=version, processes=processes, console=console)
    for survey, found in report.held_out.items():
        console.print(
            f"{survey}: AUC {found.auc:.4f}, {found.mdr:.1%} missed at {OPERATING_FPR:.1%} false positives"
        )
    console.print(f"bundle written to {out}")


if __name__ == "__main__":
    cyclopts.run(main)
