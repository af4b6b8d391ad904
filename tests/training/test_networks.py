"""The core network: shapes, size, refusals, and the same scores in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import OnnxBackend
from space2vec.workers.export import write_bundle
from space2vec.workers.manifest import Architecture, Calibration, InputSpec, Manifest, Outputs
from space2vec.workers.networks import build_network

SPEC = InputSpec(size=31)
CORE = Architecture(kind="core", parameters={"width": 16})


def build(embedding: int = 64) -> torch.nn.Module:
    torch.manual_seed(0)
    network = build_network(CORE, SPEC, Outputs(embedding=embedding))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: not the identity
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return network


def test_core_is_as_small_as_it_says() -> None:
    assert sum(p.numel() for p in build().parameters()) == 80_625


def test_outputs_have_their_shapes_and_rows_do_not_mix() -> None:
    network = build(embedding=32)
    stamps = torch.randn(5, 3, 31, 31)
    with torch.inference_mode():
        logit, embedding = network(stamps)
        alone = network(stamps[2:3])[0]
    assert logit.shape == (5,)
    assert embedding.shape == (5, 32)
    assert logit[2].item() == pytest.approx(alone.item(), abs=1e-5)


def test_built_networks_are_in_evaluation_mode() -> None:
    assert not build().training


@pytest.mark.parametrize(
    ("architecture", "told"),
    [
        (Architecture(kind="resnet"), "no network 'resnet'; known: core"),
        (Architecture(kind="core", parameters={"width": 2}), "architecture.parameters.width"),
        (Architecture(kind="core", parameters={"depth": 9}), "architecture.parameters.depth"),
    ],
)
def test_unknown_networks_and_parameters_are_refused(architecture: Architecture, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        build_network(architecture, SPEC, Outputs(embedding=64))


def test_onnx_gives_the_scores_of_torch_at_any_batch_size(tmp_path) -> None:  # type: ignore[no-untyped-def]
    network = build()
    manifest = Manifest(
        name="core", version="test", architecture=CORE, input=SPEC,
        outputs=Outputs(embedding=64), calibration=Calibration(temperature=1.0),
    )  # fmt: skip
    rng = np.random.default_rng(3)
    bundle = write_bundle(tmp_path, manifest, network, rng.normal(size=(4, 3, 63, 63)).astype(np.float32))
    backend = OnnxBackend(bundle)
    for count in (1, 2, 33):
        stamps = np.clip(rng.normal(0, 2, (count, 3, 31, 31)), -8, 8).astype(np.float32)
        with torch.inference_mode():
            logit, embedding = network(torch.from_numpy(stamps))
        scores = backend.score(stamps)
        assert np.allclose(scores.logit, logit.numpy(), atol=1e-5, rtol=1e-5)
        assert np.allclose(scores.embedding, embedding.numpy(), atol=1e-5, rtol=1e-5)
