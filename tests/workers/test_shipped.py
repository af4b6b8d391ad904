"""Every bundle that comes with space2vec."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from space2vec.workers.backends import OnnxBackend
from space2vec.workers.bundle import Bundle, load_bundle, shipped_bundles, verify_bundle
from space2vec.workers.preprocess import normalise_triplets
from space2vec.workers.torch_backend import TorchBackend


@pytest.fixture(params=shipped_bundles())
def shipped(request: pytest.FixtureRequest) -> Bundle:
    return load_bundle(request.param)


def test_what_is_shipped_is_named_here() -> None:
    assert shipped_bundles() == ["core", "pair"]
    assert [load_bundle(name).manifest.outputs.spread for name in shipped_bundles()] == [False, True]


def test_a_bundle_is_found_by_its_own_name(shipped: Bundle) -> None:
    assert shipped.manifest.name == shipped.path.name
    assert (
        (shipped.path / "card.md")
        .read_text()
        .startswith(f"# {shipped.manifest.name} {shipped.manifest.version}")
    )


def test_verifies(shipped: Bundle) -> None:
    checks = verify_bundle(shipped, "cpu")
    assert all(check.ok for check in checks), checks


def test_onnx_runtime_and_torch_agree(
    shipped: Bundle, make_triplets: Callable[..., NDArray[np.float32]]
) -> None:
    stamps = np.concatenate(
        [shipped.golden().stamps, normalise_triplets(make_triplets(64), shipped.manifest.input)]
    )
    onnx, torch = OnnxBackend(shipped).score(stamps), TorchBackend(shipped, "cpu").score(stamps)
    np.testing.assert_allclose(onnx.logit, torch.logit, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(onnx.embedding, torch.embedding, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(onnx.probability, torch.probability, rtol=0, atol=1e-5)
    if shipped.manifest.outputs.spread:
        assert onnx.spread is not None
        assert torch.spread is not None
        np.testing.assert_allclose(onnx.spread, torch.spread, rtol=1e-5, atol=1e-5)


def test_tells_a_source_from_a_hot_pixel(shipped: Bundle) -> None:
    rng = np.random.default_rng(4)
    stamps = rng.normal(0, 10, (40, 3, 63, 63)).astype(np.float32)
    rows, cols = np.mgrid[:63, :63] - 31
    stamps[:20, 0::2] += 400 * np.exp(-(rows**2 + cols**2) / 3.0).astype(np.float32)
    stamps[20:, 0::2, 31, 31] += 400
    scores = OnnxBackend(shipped).score(normalise_triplets(stamps, shipped.manifest.input)).probability
    assert scores[:20].mean() > 0.5 > scores[20:].mean()


@pytest.mark.parametrize(("gain", "pedestal"), [(3.7, 500.0), (1e-6, 0.0), (25.0, -2000.0)])
def test_pedestal_and_unit_do_not_reach_the_score(shipped: Bundle, gain: float, pedestal: float) -> None:
    pixels, spec = shipped.golden().pixels, shipped.manifest.input
    moved = (pixels.astype(np.float64) * gain + pedestal).astype(np.float32)
    backend = OnnxBackend(shipped)
    here, there = (backend.score(normalise_triplets(each, spec)).probability for each in (pixels, moved))
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-4)


def test_turned_and_mirrored_stamps_get_the_same_score(shipped: Bundle) -> None:
    stamps = shipped.golden().stamps
    backend = OnnxBackend(shipped)
    usual = backend.score(stamps)
    for side in (stamps, stamps[..., ::-1]):
        for turn in range(4):
            found = backend.score(np.ascontiguousarray(np.rot90(side, turn, (2, 3))))
            np.testing.assert_allclose(found.probability, usual.probability, rtol=0, atol=1e-4)


def test_names_its_operating_points_kinds_and_causes(shipped: Bundle) -> None:
    points = shipped.manifest.operating_points
    assert list(points) == ["complete", "balanced", "pure"]
    assert points["complete"] < points["pure"]
    outputs = shipped.manifest.outputs
    assert {"sn", "asteroid"} <= set(outputs.kinds)
    assert {"cosmic_ray", "noise"} <= set(outputs.causes)
    groups = OnnxBackend(shipped).score(shipped.golden().stamps).groups
    np.testing.assert_allclose(groups[:, : len(outputs.kinds)].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(groups[:, len(outputs.kinds) :].sum(axis=1), 1, atol=1e-5)
