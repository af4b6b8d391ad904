"""Symmetric weights: what is turned or mirrored gets the same score, during training and afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from space2vec.training.member import new_network
from space2vec.training.symmetry import ORDER, settle, turned
from space2vec.workers.networks import Core


@pytest.fixture(scope="module")
def settled() -> Core:
    network = new_network(3)
    network.train()
    for _ in range(3):  # batch norms that have seen something
        network(torch.randn(32, 3, 31, 31))
    settle(network.stages)
    return network.eval()


def test_the_eight_symmetries_differ() -> None:
    kernel = torch.arange(9.0).reshape(3, 3)
    assert len({tuple(turned(kernel, symmetry).flatten().tolist()) for symmetry in range(ORDER)}) == ORDER


def test_outputs_do_not_change(settled: Core) -> None:
    stamps = torch.randn(8, 3, 31, 31)
    with torch.inference_mode():
        usual = settled(stamps)
        for symmetry in range(ORDER):
            for found, expected in zip(settled(turned(stamps, symmetry)), usual, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_maps_turn_with_the_stamp_and_are_not_round(settled: Core) -> None:
    """The network sees directions: its maps are not the same before and after."""
    stamps = torch.randn(4, 3, 31, 31)
    with torch.inference_mode():
        maps, after = settled.stages(stamps), settled.stages(turned(stamps, 1))
    torch.testing.assert_close(after, turned(maps, 1), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(after, maps, atol=1e-2)


def test_settling_leaves_plain_layers_with_the_same_outputs() -> None:
    network = new_network(5).eval()
    stamps = torch.randn(4, 3, 31, 31)
    with torch.inference_mode():
        before = network(stamps)[0].numpy()
        settle(network.stages)
        after = network(stamps)[0].numpy()
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert type(network.stages[0]) is torch.nn.Conv2d
    assert not any("parametrizations" in name for name in network.state_dict())


def test_symmetry_ties_seven_of_eight_weights_of_hidden_layers() -> None:
    tied, plain = new_network(1), new_network(1)
    settle(plain.stages)
    free = sum(p.numel() for p in tied.stages.parameters())
    assert 7 < sum(p.numel() for p in plain.stages.parameters()) / free < 8
