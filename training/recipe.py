"""The settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights.

    Attributes
    ----------
    count : int
        Simulated candidates per survey to train on.
    held_out : int
        Simulated candidates per survey to calibrate and test on.
    epochs, batch : int
        Passes over the simulated candidates; candidates per step.
    cycle : int
        Passes over which the first training's rate would fall to nothing; used where real alerts follow.
    rate : float
        Peak learning rate.
    copies : int
        How often each real alert occurs in the second training, each time with other accidents.
    real_epochs : int
        Passes over these and the simulated candidates.
    real_rate : float
        Peak learning rate of these.
    bfloat16 : bool
        Whether to train in half precision (`space2vec.training.fit.Schedule`).
    seed : int
        Seed of the simulation and of the first network's training; the next network's is one more, and so on.
    members : int
        How many networks to train; more than one make an ensemble.
    """

    count: int = 50_000
    held_out: int = 3_000
    epochs: int = 2
    cycle: int = 5
    batch: int = 128
    rate: float = 3e-3
    copies: int = 12
    real_epochs: int = 5
    real_rate: float = 2e-3
    bfloat16: bool = True
    seed: int = 1
    members: int = 1
