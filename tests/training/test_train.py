"""A tiny training run learns, repeats, and leaves a bundle that loads; the shipped bundle is good."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from space2vec.schemas.errors import ModelError
from space2vec.training.dataset import STAMP_SIZES, Examples, prepare
from space2vec.training.fit import Schedule, augment, fit, score
from space2vec.training.labelled import read_labelled
from space2vec.training.member import SPEC, new_network
from space2vec.training.metrics import performance
from space2vec.training.on_real import logits
from space2vec.training.on_simulated import by_snr, judge, on_simulated, passed
from space2vec.training.recipe import Recipe
from space2vec.training.simulate import generate
from space2vec.training.symmetry import settle
from space2vec.training.tiers import label
from space2vec.training.train import train
from space2vec.workers.backends import open_backend
from space2vec.workers.bundle import load_bundle, shipped_bundles, verify_bundle


@pytest.fixture(scope="module")
def examples() -> Examples:
    candidates = generate("ztf", 500, 31)
    return prepare(candidates, SPEC, np.random.default_rng(0), accidents=True)


def fitted(examples: Examples, device: str = "cpu") -> tuple[torch.nn.Module, list[float]]:
    torch.set_num_threads(1)
    network = new_network(1).to(device)
    losses = fit(network, examples, Schedule(epochs=3, batch=32, rate=3e-3, seed=1), lambda step, loss: None)
    settle(network.cpu().stages)
    return network, losses


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
        ),
    ],
)
def test_loss_falls_and_the_network_learns(examples: Examples, device: str) -> None:
    network, losses = fitted(examples, device)
    assert losses[-1] < 0.8 * losses[0]
    assert performance(score(network, examples.inputs), examples.real).auc > 0.8


def test_training_repeats(examples: Examples) -> None:
    first, second = (score(fitted(examples)[0], examples.inputs) for _ in range(2))
    assert np.array_equal(first, second)


def test_augmentation_keeps_the_centre_and_drops_few_planes() -> None:
    stamps = torch.arange(400 * 3 * 31 * 31, dtype=torch.float32).reshape(400, 3, 31, 31) + 1
    turned = augment(stamps, np.random.default_rng(0))
    whole = turned[:, 2, 15, 15] != 0
    assert whole.float().mean() > 0.9
    assert torch.equal(turned[whole, 2, 15, 15], stamps[whole, 2, 15, 15])
    lost = (turned == 0).all(dim=3).all(dim=2).float().mean(dim=0)
    assert 0 < lost[0] < 0.08
    assert 0 < lost[1] < 0.12
    assert lost[2] == 0


def test_augmentation_takes_away_a_few_lines_and_edges() -> None:
    kept = augment(torch.ones(2000, 3, 31, 31), np.random.default_rng(1))[:, 2]
    touched = (kept == 0).any(dim=2).any(dim=1)
    assert 0.08 < touched.float().mean() < 0.25
    lines = torch.minimum((kept == 0).all(dim=2).sum(dim=1), (kept == 0).all(dim=1).sum(dim=1))
    assert (lines[~touched] == 0).all()
    assert ((kept == 0).float().mean(dim=(1, 2)) <= 0.4).all()


def test_command_leaves_a_bundle_with_a_card(tmp_path: Path) -> None:
    recipe = Recipe(count=150, held_out=150, epochs=1, batch=32, bfloat16=False, seed=5)
    report = train(recipe, tmp_path / "core", version="9", processes=1, console=Console(file=io.StringIO()))
    bundle = load_bundle(tmp_path / "core")
    assert all(check.ok for check in verify_bundle(bundle, "cpu"))
    assert bundle.manifest.version == "9"
    assert bundle.manifest.calibration.temperature == report.temperature
    assert bundle.manifest.training["data_sha256"] == report.digest
    card = (tmp_path / "core" / "card.md").read_text()
    assert report.digest in card
    assert "--count 150" in card


def test_two_members_are_the_usual_network_and_another(tmp_path: Path) -> None:
    weights: list[dict[str, torch.Tensor]] = []
    kept = tmp_path / "kept"
    for members in (1, 2):
        recipe = Recipe(count=60, held_out=150, epochs=1, batch=16, bfloat16=False, seed=5, members=members)
        out, console = tmp_path / str(members), Console(file=io.StringIO())
        report = train(recipe, out, version="9", processes=1, console=console, kept=kept)
        assert [len(losses) for losses in report.losses] == [1] * members
        weights.append(load_file(out / "weights.safetensors"))
    bundle = load_bundle(tmp_path / "2")
    assert all(check.ok for check in verify_bundle(bundle, "cpu"))
    assert (bundle.manifest.name, bundle.manifest.outputs.spread) == ("pair", True)
    alone, together = weights
    assert together.keys() == {f"members.{member}.{name}" for member in (0, 1) for name in alone}
    assert all(torch.equal(tensor, together[f"members.0.{name}"]) for name, tensor in alone.items())
    kernels = [together[f"members.{member}.stages.0.weight"] for member in (0, 1)]
    assert not torch.equal(*kernels)
    card = (tmp_path / "2" / "card.md").read_text()
    assert "--out workers/bundles/pair" in card
    assert "of the seeds 5 to 6" in card


def test_more_members_than_a_bundle_may_have_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"architecture\.parameters\.members"):
        train(
            Recipe(members=9), tmp_path / "out", version="9", processes=1, console=Console(file=io.StringIO())
        )
    assert not (tmp_path / "out").exists()


def test_shipped_bundles_tell_simulated_real_from_bogus(tmp_path: Path) -> None:
    for name in shipped_bundles():
        bundle = load_bundle(name)
        backend = open_backend(bundle, "cpu")
        for survey in STAMP_SIZES:
            file = tmp_path / f"{survey}.npz"
            judged = judge(backend, bundle.manifest, survey, 400, seed=77, file=file)
            found = on_simulated(judged, bundle.manifest)
            assert found["overall"]["auc"] > 0.95, (name, survey)  # type: ignore[index,call-overload,operator]
            assert ("disagreement" in found) == bundle.manifest.outputs.spread


def test_breakdowns_count_every_candidate(examples: Examples) -> None:
    above = examples.real
    assert sum(p["count"] for p in passed(examples, above).values()) == len(examples)  # type: ignore[index,call-overload,misc]
    for part in by_snr(examples, above).values():
        assert (part["completeness"], part["fpr"]) == (1, 0)  # type: ignore[index,call-overload]


REAL = Path(__file__).parents[3] / "shared" / "stamps"


@pytest.mark.skipif(not (REAL / "ztf.npz").is_file(), reason="no real stamps in ../shared")
@pytest.mark.parametrize("name", shipped_bundles())
def test_shipped_bundle_agrees_with_drb_on_real_ztf_alerts_it_never_saw(name: str) -> None:
    bundle = load_bundle(name)
    labelled = read_labelled(REAL, "ztf")
    rows = np.flatnonzero(label(labelled).held_out)
    alerts = labelled.take(rows)
    drb = alerts.numbers("label_drb")
    sure = (drb > 0.9) | (drb < 0.1)
    logit = logits(open_backend(bundle, "cpu"), alerts.inputs(bundle.manifest.input))
    assert performance(logit[sure], drb[sure] > 0.5).auc >= 0.97
