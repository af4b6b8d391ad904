"""Networks that speak as one: the mean of their logits, and how far apart these are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import OnnxBackend
from space2vec.workers.bundle import Bundle, check_golden, load_bundle, write_files
from space2vec.workers.export import write_bundle
from space2vec.workers.manifest import Architecture, Calibration, InputSpec, Manifest, Outputs
from space2vec.workers.networks import Ensemble, build_network
from space2vec.workers.preprocess import normalise_triplets
from space2vec.workers.torch_backend import TorchBackend

Stamps = NDArray[np.float32]
SPEC = InputSpec(size=31)
ONE = {"kind": "core", "parameters": {"width": 4}}
OUTPUTS = Outputs(embedding=8, kinds=("sn", "agn"), causes=("noise",), spread=True)


def architecture(**parameters: Any) -> Architecture:
    return Architecture(kind="ensemble", parameters={"of": ONE} | parameters)


def manifest_of(**more: Any) -> Manifest:
    known = {"name": "three", "version": "1", "architecture": architecture(members=3), "input": SPEC,
             "outputs": OUTPUTS, "calibration": Calibration(temperature=0.5)}  # fmt: skip
    return Manifest(**(known | more))


@pytest.fixture(scope="module")
def network() -> Ensemble:
    torch.manual_seed(2)
    built = build_network(architecture(members=3), SPEC, OUTPUTS)
    assert isinstance(built, Ensemble)
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: not the identity
            module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr,operator]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr,operator]
    return built


@pytest.fixture(scope="module")
def bundle(
    network: Ensemble, make_triplets: Callable[..., Stamps], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("ensemble"), manifest_of(), network, make_triplets(6))


@pytest.fixture(scope="module")
def stamps(make_triplets: Callable[..., Stamps]) -> Stamps:
    return normalise_triplets(make_triplets(33, seed=5), SPEC)


@pytest.mark.parametrize("kind", [OnnxBackend, lambda bundle: TorchBackend(bundle, "cpu")])
def test_scores_are_the_members_mean_and_their_standard_deviation(
    kind: type[OnnxBackend], network: Ensemble, bundle: Bundle, stamps: Stamps
) -> None:
    with torch.inference_mode():
        alone = [member(torch.from_numpy(stamps)) for member in network.members]
    logits = np.stack([logit.numpy() for logit, _, _ in alone]).astype(np.float64)
    scores = kind(bundle).score(stamps)
    assert logits.std(0).min() > 1e-4, "members that agree would prove nothing"
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(scores.logit, logits.mean(0) / 0.5, **close)  # type: ignore[arg-type]
    assert scores.spread is not None
    assert scores.spread.dtype == np.float32
    np.testing.assert_allclose(scores.spread, logits.std(0) / 0.5, **close)  # type: ignore[arg-type]
    np.testing.assert_allclose(scores.embedding, alone[0][1].numpy(), **close)  # type: ignore[arg-type]
    groups = np.mean([told.numpy() for _, _, told in alone], axis=0)
    kinds = np.exp(groups[:, :2]) / np.exp(groups[:, :2]).sum(1, keepdims=True)
    np.testing.assert_allclose(scores.groups[:, :2], kinds, **close)  # type: ignore[arg-type]


def test_members_without_groups_make_an_ensemble_without(tmp_path: Path, stamps: Stamps) -> None:
    outputs = Outputs(embedding=8, spread=True)
    plain = build_network(architecture(), SPEC, outputs)
    written = write_bundle(
        tmp_path, manifest_of(architecture=architecture(), outputs=outputs), plain, stamps[:2]
    )
    scores = OnnxBackend(written).score(stamps)
    assert scores.groups.shape == (33, 0)
    assert scores.spread is not None
    assert scores.spread.shape == (33,)


def test_it_is_one_graph_of_four_outputs(bundle: Bundle) -> None:
    graph = onnx.load_model_from_string(bundle.read("network.onnx")).graph
    assert [value.name for value in graph.output] == ["logit", "embedding", "groups", "spread"]


@pytest.mark.parametrize("wrong", [0.001, np.nan])
def test_another_golden_spread_does_not_verify(bundle: Bundle, tmp_path: Path, wrong: float) -> None:
    spoiled = with_golden(bundle, tmp_path, spread=lambda spread: spread + np.float32(wrong))
    failed = [check.name for check in check_golden(spoiled, OnnxBackend(spoiled)) if not check.ok]
    assert failed == ["spreads on cpu"]
    assert all(check.ok for check in check_golden(bundle, OnnxBackend(bundle)))


def test_golden_vectors_without_the_spread_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="spread is missing"):
        with_golden(bundle, tmp_path, spread=None).golden()


def test_a_graph_that_gives_a_spread_where_the_manifest_promises_none_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    silent = manifest_of(outputs=OUTPUTS.model_copy(update={"spread": False}))
    contents = {name: bundle.read(name) for name in bundle.manifest.files}
    written = write_files(tmp_path / "silent", silent, contents)
    with pytest.raises(
        ModelError, match=r"gives \[.*'spread'\], not stamps to logit and embedding and groups$"
    ):
        OnnxBackend(written)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"members": 1}, r"architecture\.parameters\.members: .* greater than or equal to 2"),
        ({"members": 9}, r"architecture\.parameters\.members: .* less than or equal to 8"),
        ({"of": None}, r"architecture\.parameters\.of"),
        ({"weights": [1, 2]}, r"architecture\.parameters\.weights"),
        ({"of": {"kind": "resnet"}}, r"architecture\.parameters\.of\.kind: no network 'resnet'"),
        ({"of": {"kind": "ensemble"}}, r"architecture\.parameters\.of\.kind: .* are no ensembles"),
        ({"of": {"kind": "graph"}}, r"architecture\.parameters\.of\.kind: no network 'graph'"),
        (
            {"of": {"kind": "core", "parameters": {"width": 2}}},
            r"architecture\.parameters\.of\.parameters\.width",
        ),
    ],
)
def test_ensembles_that_cannot_be_are_refused(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        build_network(architecture(**parameters), SPEC, OUTPUTS)


@pytest.mark.parametrize(("kind", "spread"), [(ONE, True), (architecture().model_dump(), False)])
def test_a_spread_goes_with_an_ensemble(kind: dict[str, Any], spread: bool) -> None:
    outputs = Outputs(embedding=8, spread=spread)
    with pytest.raises(ModelError, match=r"^outputs\.spread is (True, but core|False, but ensemble) gives"):
        build_network(Architecture.model_validate(kind), SPEC, outputs)


def with_golden(bundle: Bundle, folder: Path, spread: Callable[[Stamps], Stamps] | None) -> Bundle:
    """A copy of the bundle with another golden spread, or none."""
    golden = safetensors.numpy.load(bundle.read("golden.safetensors"))
    was = golden.pop("spread")
    if spread is not None:
        golden["spread"] = spread(was)
    contents = {name: bundle.read(name) for name in bundle.manifest.files}
    contents["golden.safetensors"] = safetensors.numpy.save(golden)
    write_files(folder, bundle.manifest.model_copy(update={"files": {}}), contents)
    return load_bundle(folder)
