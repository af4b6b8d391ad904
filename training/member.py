"""One network of a recipe: drawn by its seed, fitted to simulated sky, then to real alerts as well."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from rich.progress import Progress
from torch import nn

from space2vec.training.causes import CAUSES
from space2vec.training.dataset import Examples, join
from space2vec.training.events import KINDS
from space2vec.training.fit import Schedule, fit
from space2vec.training.labelled import read_labelled
from space2vec.training.recipe import Recipe
from space2vec.training.symmetry import settle, symmetrise
from space2vec.training.tiers import real_examples
from space2vec.workers.manifest import Architecture, InputSpec, Outputs
from space2vec.workers.networks import Core, build_network

SPEC = InputSpec(size=31, missing_pixel="interpolated")
ARCHITECTURE = Architecture(kind="core", parameters={"width": 16, "growth": [3, 6], "pool": 3})
OUTPUTS = Outputs(embedding=64, kinds=KINDS[1:], causes=CAUSES[1:])
REAL_SURVEYS = ("ztf", "lsst")


@dataclass(frozen=True, slots=True)
class Member:
    """A fitted network.

    Attributes
    ----------
    network : Core
        With plain weights, on the CPU, in evaluation mode.
    losses : list of float
        Mean training loss of each epoch.
    tuning : str or None
        SHA-256 of the examples of its second training; ``None`` where there was none.
    """

    network: Core
    losses: list[float]
    tuning: str | None


def new_network(seed: int) -> Core:
    """Build the network with symmetric weights drawn anew."""
    torch.manual_seed(seed)
    network = build_network(ARCHITECTURE, SPEC, OUTPUTS)
    assert isinstance(network, Core)
    symmetrise(network.stages)
    return network


def fit_member(
    recipe: Recipe,
    seed: int,
    examples: Examples,
    progress: Progress,
    *,
    name: str = "",
    device: str = "cpu",
    stamps: Path | None = None,
    kept: Path | None = None,
) -> Member:
    """Fit a network to simulated candidates and, where there are stamps, to these and real alerts.

    Parameters
    ----------
    recipe : Recipe
        How long and how fast; its own seed is not looked at.
    seed : int
        Of the weights, the order of examples, their augmentation and the accidents of real alerts.
    examples : Examples
        The simulated candidates.
    progress : Progress
        Gets a bar for each training.
    name : str
        What the bars' names begin with.
    device : str
        What trains: ``cpu``, ``cuda``.
    stamps : Path or None
        Folder of the real alerts.
    kept : Path or None
        Folder for the network as it is between the two trainings.
    """
    network = new_network(seed).to(device)
    cycle = recipe.cycle if stamps is not None else 0
    schedule = Schedule(recipe.epochs, recipe.batch, recipe.rate, seed, cycle, recipe.bfloat16)
    checkpoint = kept / f"pretrained-{seed}.safetensors" if kept else None
    losses = pretrain(network, examples, schedule, progress, f"{name}training", checkpoint)
    tuning = None
    if stamps is not None:
        real = fine_tuning_set(stamps, examples, recipe.copies, seed)
        schedule = Schedule(
            recipe.real_epochs, recipe.batch, recipe.real_rate, seed + 1, bfloat16=recipe.bfloat16
        )
        losses += fit_with_bar(network, real, schedule, progress, f"{name}fine-tuning")
        tuning = real.digest()
    settle(network.cpu().stages)
    return Member(network, losses, tuning)


def fine_tuning_set(stamps: Path, simulated: Examples, copies: int, seed: int) -> Examples:
    """Real alerts that are not held out, and the simulated candidates lest they be forgotten."""
    rng = np.random.default_rng([seed, 11])
    real = [real_examples(read_labelled(stamps, survey), SPEC, copies, rng) for survey in REAL_SURVEYS]
    return join([simulated, *real])


def fit_with_bar(
    network: nn.Module, examples: Examples, schedule: Schedule, progress: Progress, name: str
) -> list[float]:
    """`fit`, with a progress bar."""
    bar = progress.add_task(name, total=schedule.epochs * (len(examples) // schedule.batch))

    def moved(step: int, loss: float) -> None:
        progress.update(bar, completed=step, description=f"{name}: loss {loss:.3f}")

    return fit(network, examples, schedule, moved)


def pretrain(
    network: nn.Module,
    examples: Examples,
    schedule: Schedule,
    progress: Progress,
    name: str,
    checkpoint: Path | None,
) -> list[float]:
    """Fit to the simulated candidates, or take what an earlier run of the same schedule left in ``checkpoint``."""
    mark = hashlib.sha256(f"{examples.digest()} {schedule}".encode()).hexdigest()
    if checkpoint is not None and checkpoint.is_file():
        with safetensors.safe_open(checkpoint, "pt") as kept:
            told = kept.metadata() or {}
        if told.get("mark") == mark:
            network.load_state_dict(safetensors.torch.load_file(checkpoint))
            return [float(loss) for loss in told["losses"].split()]
    losses = fit_with_bar(network, examples, schedule, progress, name)
    if checkpoint is not None:
        state = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
        told = {"mark": mark, "losses": " ".join(str(loss) for loss in losses)}
        safetensors.torch.save_file(state, checkpoint, told)
    return losses
