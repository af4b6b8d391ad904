"""Fitting a network to examples: augmentation, losses, the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from space2vec.training.dataset import Examples
from space2vec.training.symmetry import ORDER, turned
from space2vec.workers.gaps import close_gaps

SMOOTHING = 0.01
GROUP_WEIGHT = 0.3
"""Weight of telling kinds and causes apart, which also teaches the embedding to put like with like."""

TORN = 0.4
"""Fraction of a batch that `augment` takes lines or edges from."""

MOST_LINES, MOST_EDGE = 0.2, 0.3
"""How much of a stamp it takes away at most: of its lines, of its width at an edge."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to fit.

    Attributes
    ----------
    epochs, batch : int
        Passes over the examples; examples per step.
    rate : float
        Peak learning rate of AdamW, on a one-cycle schedule.
    seed : int
        Seed of order and augmentation.
    cycle : int
        Passes over which the rate would fall to nothing, where that is more than ``epochs``: what is left early
        is left warm, for another fit to cool.
    bfloat16 : bool
        Whether layers compute in half precision: two thirds of the time on processors with instructions for it
        (AVX-512 BF16, AMX) and on GPUs, many times more on other processors. Weights stay in single precision.
    """

    epochs: int
    batch: int
    rate: float
    seed: int
    cycle: int = 0
    bfloat16: bool = False


def augment(stamps: Tensor, rng: np.random.Generator) -> Tensor:
    """Turn a batch by a symmetry of the square; take planes, lines and edges away from some rows.

    The network is symmetric; turning matters to its batch norms, which see each channel of a group by itself. What
    lost lines leave behind is what serving makes of them.
    """
    stamps = turned(stamps, int(rng.integers(ORDER))).clone()
    count, planes, side, _ = stamps.shape
    lost = rng.random(count)
    stamps[torch.from_numpy(lost < 0.05), 1] = 0
    stamps[torch.from_numpy(lost > 0.97), 0] = 0
    torn = np.flatnonzero(rng.random(count) < TORN)
    taken = np.zeros((len(torn), planes, side), bool)
    for row in taken:
        plane = slice(None) if rng.random() < 0.7 else int(rng.integers(planes))
        if rng.random() < 0.75:
            row[plane] |= rng.random(side) < rng.uniform(0, MOST_LINES)
        else:
            row[plane, : int(rng.uniform(0, MOST_EDGE) * side)] = True
    if rng.random() < 0.5:
        taken = taken[:, :, ::-1]
    lines = taken[..., None] if rng.random() < 0.5 else taken[..., None, :]
    holed = np.where(lines, np.float32(np.nan), stamps.numpy()[torn])
    close_gaps(holed.reshape(-1, side, side))
    stamps[torch.from_numpy(torn)] = torch.from_numpy(np.nan_to_num(holed, copy=False))
    return stamps


def loss_of(network: nn.Module, stamps: Tensor, target: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """Cross-entropy of real against bogus, smoothed and weighted, plus that of the kinds and causes.

    Parameters
    ----------
    network : Module
        Gives logits, embeddings and groups.
    stamps : (N, P, S, S) float32
        Network inputs.
    target, weight : (N,) float32
        Probability of being real; how much that counts.
    group : (N,) int64
        Index into `space2vec.training.dataset.GROUPS`, -1 where it is not known.
    """
    logit, _, groups = network(stamps)
    target = target * (1 - 2 * SMOOTHING) + SMOOTHING
    binary = nn.functional.binary_cross_entropy_with_logits(logit, target, weight=weight)
    known = (group >= 0).sum().clamp(min=1)
    told = nn.functional.cross_entropy(groups, group, ignore_index=-1, reduction="sum") / known
    return binary + GROUP_WEIGHT * told


def batches(
    examples: Examples, schedule: Schedule, rng: np.random.Generator
) -> Iterator[list[NDArray[np.int64]]]:
    """Rows of every batch, epoch by epoch; examples that do not fill a batch wait for the next epoch."""
    steps = len(examples) // schedule.batch
    for _ in range(schedule.epochs):
        yield np.array_split(rng.permutation(len(examples))[: steps * schedule.batch], steps)


def fit(
    network: nn.Module, examples: Examples, schedule: Schedule, progress: Callable[[int, float], object]
) -> list[float]:
    """Fit ``network`` in place; return the mean loss of each epoch.

    Parameters
    ----------
    network : Module
        Trained on the device where it is; left in evaluation mode.
    examples : Examples
        At least a batch of them. They stay in main memory, and are augmented there.
    schedule : Schedule
        How long and how fast.
    progress : callable
        Told the number of steps so far and the loss of the last.
    """
    torch.manual_seed(schedule.seed)
    rng = np.random.default_rng([schedule.seed, 7])
    device = next(network.parameters()).device
    network.train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = max(schedule.epochs, schedule.cycle) * (len(examples) // schedule.batch)
    optimiser = torch.optim.AdamW(network.parameters(), schedule.rate, weight_decay=0.02)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.rate, total_steps=steps, pct_start=0.2)
    losses: list[float] = []
    step = 0
    for epoch in batches(examples, schedule, rng):
        total = 0.0
        for rows in epoch:
            stamps = augment(torch.from_numpy(examples.inputs[rows].astype(np.float32)), rng)
            told = (examples.target[rows], examples.weight[rows], examples.group[rows])
            with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bfloat16):
                loss = loss_of(
                    network,
                    stamps.to(device, memory_format=torch.channels_last),
                    *(torch.from_numpy(column).to(device) for column in told),
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rates.step()
            step += 1
            last = float(loss.detach())
            total += last
            progress(step, last)
        losses.append(total / len(epoch))
    network.eval()
    return losses


def score(network: nn.Module, inputs: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of network inputs, ``(N,)`` float32, by a network on the CPU."""
    network.eval()
    parts: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(inputs), 512):
            stamps = torch.from_numpy(inputs[start : start + 512].astype(np.float32))
            parts.append(network(stamps)[0].numpy())
    return np.asarray(np.concatenate(parts), np.float32)
