"""Networks that a turned or mirrored stamp cannot tell from the stamp: symmetric weights, at no cost in serving.

A sky has no up. The channels of a hidden stage come in groups of eight, one for each symmetry of the square, and
their kernels are the turned and mirrored copies of one (group convolution, Cohen & Welling 2016,
arXiv:1602.07576); the last convolution sums over the eight. Its maps then turn with the stamp, so their mean and
central pixel do not change. Only training knows of this: `settle` leaves plain convolutions with ordinary weights.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

ORDER = 8
"""Symmetries of the square: four turns, and the same mirrored."""

SIDE = 3


def turned(kernel: Tensor, symmetry: int) -> Tensor:
    """Apply symmetry 0 to 7 to the last two axes: mirrored from 4 on, then turned by so many quarters."""
    mirrored = kernel.flip(-1) if symmetry >= ORDER // 2 else kernel
    return torch.rot90(mirrored, symmetry % (ORDER // 2), (-2, -1))


def _moves() -> Tensor:
    """Where each of the nine pixels of a kernel comes from, ``(8, 9)``."""
    places = torch.arange(SIDE * SIDE).reshape(SIDE, SIDE)
    return torch.stack([turned(places, symmetry).reshape(-1) for symmetry in range(ORDER)])


def _quotients(moves: Tensor) -> Tensor:
    """Number of ``g**-1 h`` for all symmetries ``g`` and ``h``, ``(8, 8)``."""
    # Doing h, then g, gathers by moves[h][moves[g]].
    after = torch.stack([torch.stack([moves[h][moves[g]] for h in range(ORDER)]) for g in range(ORDER)])
    product = (after[:, :, None] == moves).all(-1).int().argmax(-1)
    return product.argsort(1)


class Spread(nn.Module):
    """Kernels of a convolution from those that are free.

    Parameters
    ----------
    inputs, outputs : int
        Channels of the convolution.
    grouped_inputs, grouped_outputs : bool
        Whether these come in eights. At least one does.
    """

    index: Tensor

    def __init__(self, inputs: int, outputs: int, *, grouped_inputs: bool, grouped_outputs: bool) -> None:
        super().__init__()
        fan_in, fan_out = (ORDER if grouped else 1 for grouped in (grouped_inputs, grouped_outputs))
        free = ORDER if grouped_inputs and grouped_outputs else 1
        self.shape = (outputs, inputs, SIDE, SIDE)
        self.free_shape = (outputs // fan_out, inputs // fan_in, free, SIDE * SIDE)
        moves = _moves()
        place = torch.arange(torch.Size(self.free_shape).numel()).reshape(self.free_shape)
        index = torch.empty(
            outputs // fan_out, fan_out, inputs // fan_in, fan_in, SIDE * SIDE, dtype=torch.int64
        )
        quotients = _quotients(moves)
        for g in range(fan_out):
            for h in range(fan_in):
                kernel = place[:, :, quotients[g, h] if free > 1 else 0]
                index[:, g, :, h] = kernel[..., moves[g if grouped_outputs else h]]
        self.register_buffer("index", index.reshape(self.shape), persistent=False)

    def forward(self, free: Tensor) -> Tensor:
        """Copy the free weights ``free_shape`` to where they stand: ``(outputs, inputs, 3, 3)``."""
        return free.reshape(-1)[self.index]


class Repeat(nn.Module):
    """One value for the eight channels of a group."""

    def forward(self, free: Tensor) -> Tensor:
        """Repeat each of ``(C / 8,)`` eight times."""
        return free.repeat_interleave(ORDER)


def symmetrise(stages: nn.Sequential) -> None:
    """Tie the weights of a stack of 3 x 3 convolutions and batch norms so that it is symmetric.

    All convolutions but the last must have a multiple of eight channels. Pooling must be symmetric too: windows
    of three every second pixel are, of an odd side. Weights are drawn anew (He et al. 2015).
    """
    layers = [layer for layer in stages if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    last = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1]
    grouped = False
    for conv, norm in pairwise(layers):
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.BatchNorm2d):
            continue
        spread = Spread(
            conv.in_channels, conv.out_channels, grouped_inputs=grouped, grouped_outputs=conv is not last
        )
        fan = conv.in_channels * SIDE * SIDE
        conv.weight = nn.Parameter(torch.randn(spread.free_shape) * (2 / fan) ** 0.5)
        parametrize.register_parametrization(conv, "weight", spread, unsafe=True)
        grouped = conv is not last
        if grouped:
            for name in ("weight", "bias"):
                free = getattr(norm, name).detach()[::ORDER].clone()
                setattr(norm, name, nn.Parameter(free))
                parametrize.register_parametrization(norm, name, Repeat(), unsafe=True)


def settle(stages: nn.Sequential) -> None:
    """Make plain layers of what `symmetrise` tied, in place; what a batch norm has seen is averaged over its groups."""
    for layer in stages:
        if not parametrize.is_parametrized(layer):
            continue
        layer.zero_grad()  # gradients have the shape of the free weights
        for name in ("weight", "bias"):
            if parametrize.is_parametrized(layer, name):
                parametrize.remove_parametrizations(layer, name, leave_parametrized=True)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            for seen in (layer.running_mean, layer.running_var):
                seen.copy_(seen.reshape(-1, ORDER).mean(1).repeat_interleave(ORDER))
