"""A tiny training run learns, repeats, and leaves a bundle that loads; the shipped bundle is good."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress

from space2vec.training.dataset import STAMP_SIZES, Examples, prepare
from space2vec.training.evaluate import by_snr, logits, on_simulated, passed
from space2vec.training.labelled import read_labelled
from space2vec.training.metrics import performance
from space2vec.training.simulate import generate
from space2vec.training.train import ARCHITECTURE, OUTPUTS, SPEC, Recipe, augment, fit, score, train
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle, verify_bundle
from space2vec.workers.networks import build_network


@pytest.fixture(scope="module")
def examples() -> Examples:
    candidates = generate("ztf", 500, 31)
    return prepare(candidates, SPEC, np.random.default_rng(0), accidents=True)


def fitted(examples: Examples) -> tuple[torch.nn.Module, list[float]]:
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = build_network(ARCHITECTURE, SPEC, OUTPUTS.embedding)
    recipe = Recipe(epochs=3, batch=32, seed=1)
    with Progress(console=Console(file=io.StringIO())) as progress:
        return network, fit(network, examples, recipe, progress)


def test_loss_falls_and_the_network_learns(examples: Examples) -> None:
    network, losses = fitted(examples)
    assert losses[-1] < 0.8 * losses[0]
    assert performance(score(network, examples), examples.real).auc > 0.8


def test_training_repeats(examples: Examples) -> None:
    first, second = (score(fitted(examples)[0], examples) for _ in range(2))
    assert np.array_equal(first, second)


def test_augmentation_keeps_the_centre_and_drops_few_planes() -> None:
    stamps = torch.arange(400 * 3 * 31 * 31, dtype=torch.float32).reshape(400, 3, 31, 31) + 1
    turned = augment(stamps, np.random.default_rng(0))
    assert torch.equal(turned[:, 2, 15, 15], stamps[:, 2, 15, 15])
    lost = (turned == 0).all(dim=3).all(dim=2).float().mean(dim=0)
    assert 0 < lost[0] < 0.08
    assert 0 < lost[1] < 0.12
    assert lost[2] == 0


def test_command_leaves_a_bundle_with_a_card(tmp_path: Path) -> None:
    recipe = Recipe(count=150, held_out=150, epochs=1, batch=32, seed=5)
    report = train(recipe, tmp_path / "core", version="9", processes=1, console=Console(file=io.StringIO()))
    bundle = load_bundle(tmp_path / "core")
    assert all(check.ok for check in verify_bundle(bundle, "cpu"))
    assert bundle.manifest.version == "9"
    assert bundle.manifest.calibration.temperature == report.temperature
    assert bundle.manifest.training["data_sha256"] == report.digest
    card = (tmp_path / "core" / "card.md").read_text()
    assert report.digest in card
    assert "--count 150" in card


def test_shipped_bundle_tells_simulated_real_from_bogus() -> None:
    bundle = load_bundle("core")
    assert all(check.ok for check in verify_bundle(bundle, "cpu"))
    backend = open_backend(bundle, "cpu")
    for survey in STAMP_SIZES:
        found = on_simulated(backend, bundle.manifest.input, survey, 400, seed=77)
        assert found["overall"]["auc"] > 0.95, survey  # type: ignore[index,call-overload,operator]


def test_breakdowns_count_every_candidate(examples: Examples) -> None:
    above = examples.real
    assert sum(p["count"] for p in passed(examples, above).values()) == len(examples)  # type: ignore[index,call-overload,misc]
    for part in by_snr(examples, above).values():
        assert (part["completeness"], part["fpr"]) == (1, 0)  # type: ignore[index,call-overload]


REAL = Path(__file__).parents[3] / "shared" / "stamps"


@pytest.mark.skipif(not (REAL / "ztf.npz").is_file(), reason="no real stamps in ../shared")
def test_shipped_bundle_agrees_with_drb_on_real_ztf_alerts() -> None:
    bundle = load_bundle("core")
    labelled = read_labelled(REAL, "ztf")
    label = labelled.numbers("label_drb")
    sure = (label > 0.9) | (label < 0.1)
    logit = logits(open_backend(bundle, "cpu"), labelled.inputs(bundle.manifest.input))
    assert performance(logit[sure], label[sure] > 0.5).auc >= 0.90
