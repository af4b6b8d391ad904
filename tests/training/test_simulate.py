"""Candidates: labelled by what was injected, the same bits for the same seed."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from space2vec.training import simulate
from space2vec.training.causes import CAUSES, DETECTOR, Cause
from space2vec.training.detect import THRESHOLD, cut, detect
from space2vec.training.events import KINDS
from space2vec.training.field import BORDER, SIZE, Field, observe
from space2vec.training.simulate import Candidates, generate, simulate_field
from space2vec.training.surveys import GEOMETRIES


@pytest.fixture(scope="module", params=sorted(GEOMETRIES))
def candidates(request: pytest.FixtureRequest) -> Candidates:
    return generate(request.param, 300, 11)


@pytest.fixture(scope="module", params=sorted(GEOMETRIES))
def field(request: pytest.FixtureRequest) -> Field:
    return observe(GEOMETRIES[request.param], np.random.default_rng(5))


def test_bright_events_are_detected_and_labelled_real(field: Field) -> None:
    """Every clean event ten times above the limit is a real candidate of its kind, or lost to a blend."""
    truth, fwhm = field.truth, field.conditions.psf.fwhm
    real = [d for d in detect(field) if d.cause == Cause.NONE]
    bright = np.flatnonzero(
        (np.abs(truth.flux) > 2.5 * field.conditions.limit)
        & (np.abs(truth.flux) < 0.5 * field.saturation)
        & (truth.kind != KINDS.index("variable"))
    )
    clear = [
        i
        for i in bright
        if np.sort(np.hypot(truth.x - truth.x[i], truth.y - truth.y[i]))[1] > 10
        and not np.isin(box(field.cause, truth.x[i], truth.y[i]), [int(c) for c in Cause][1:]).any()
        and box(field.on_chip & field.in_template, truth.x[i], truth.y[i]).all()
    ]
    found = [
        i
        for i in clear
        if any(
            np.hypot(d.x - truth.x[i], d.y - truth.y[i]) < max(1.6, 0.6 * fwhm) and d.kind == truth.kind[i]
            for d in real
        )
    ]
    assert len(clear) >= 3
    assert len(found) >= 0.8 * len(clear)


def box(image: np.ndarray, x: float, y: float) -> np.ndarray:
    row, column = round(y), round(x)
    return image[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5]


def test_without_events_nothing_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("space2vec.training.events.MIX", dict.fromkeys(KINDS[1:], 0) | {"hostless": 1})
    quiet = observe(GEOMETRIES["ztf"], np.random.default_rng(6))
    real = [d for d in detect(quiet) if d.cause == Cause.NONE]
    assert len(real) <= 1


def test_a_flipped_truth_is_not_real(field: Field) -> None:
    """A detection of the other sign than the injected flux is never labelled with it."""
    for detection in detect(field):
        if detection.cause == Cause.NONE:
            near = np.hypot(field.truth.x - detection.x, field.truth.y - detection.y) < 5
            assert np.sign(field.truth.flux[near].sum()) == np.sign(detection.flux)


def test_candidates_are_five_sigma_detections_of_both_classes(candidates: Candidates) -> None:
    assert (candidates.snr >= THRESHOLD).all()
    assert 0.3 < candidates.real.mean() < 0.75
    assert set(np.unique(candidates.kind[candidates.real])) == set(range(1, len(KINDS)))
    assert (candidates.kind[~candidates.real] == 0).all()
    assert len(np.unique(candidates.cause)) >= 7
    assert candidates.cause.max() < len(CAUSES)


def test_stamps_are_of_the_survey(candidates: Candidates) -> None:
    geometry = GEOMETRIES[candidates.survey]
    assert candidates.stamps.shape == (300, 3, geometry.stamp, geometry.stamp)
    assert candidates.stamps.dtype == np.float32
    sky = np.nanmedian(candidates.stamps[:, :2])
    noise = np.nanmedian(np.abs(candidates.stamps[:, 2] - np.nanmedian(candidates.stamps[:, 2])))
    assert (sky > 5 * noise) == geometry.pedestal
    assert ((candidates.x >= 0) & (candidates.x < SIZE) & (candidates.y >= 0) & (candidates.y < SIZE)).all()
    assert ((candidates.ra >= 0) & (candidates.ra < 360) & (np.abs(candidates.dec) < 61)).all()


def test_negative_sources_are_negative_unless_the_survey_flips(candidates: Candidates) -> None:
    centre = candidates.stamps.shape[-1] // 2
    near = candidates.stamps[:, 2, centre - 1 : centre + 2, centre - 1 : centre + 2].sum((1, 2))
    clean = candidates.real & (candidates.snr > 15) & np.isfinite(near)
    assert (clean & candidates.negative).sum() >= 3
    turned = candidates.negative & ~candidates.flipped
    assert (near[clean & turned] < 0).all()
    assert (near[clean & ~turned] > 0).all()
    assert candidates.flipped.any() == GEOMETRIES[candidates.survey].flips_negative


def test_flux_and_magnitude_agree_with_the_limit(candidates: Candidates) -> None:
    geometry = GEOMETRIES[candidates.survey]
    faint = candidates.snr < 8
    magnitude = np.median(candidates.zero_point - 2.5 * np.log10(candidates.flux[faint]))
    # Hosts, template noise and the wings of the PSF cost a survey up to a magnitude of its limit.
    assert geometry.m5 - 1.0 < magnitude < geometry.m5
    assert np.allclose(candidates.flux / candidates.flux_err, candidates.snr, rtol=1e-4)


def test_seeds_repeat_bit_for_bit() -> None:
    once, again, other = (simulate_field("ztf", seed, 3, 63) for seed in (1, 1, 2))
    for column in fields(Candidates):
        first, second = getattr(once, column.name), getattr(again, column.name)
        assert (
            np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
            if column.name != "survey"
            else True
        )
    assert len(other) != len(once) or not np.array_equal(other.snr, once.snr)


@pytest.mark.usefixtures("ray_cluster")
def test_processes_do_not_change_the_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(*arguments: Any) -> Candidates:
        (tmp_path / str(os.getpid())).touch()
        return simulate_field(*arguments)

    alone = generate("des", 90, 4)
    monkeypatch.setattr(simulate, "simulate_field", noted)
    shared = generate("des", 90, 4, processes=2)
    assert np.array_equal(alone.stamps, shared.stamps, equal_nan=True)
    assert np.array_equal(alone.field, shared.field)
    assert shared.stamps.flags.writeable
    simulated_by = {file.name for file in tmp_path.iterdir()}
    assert simulated_by
    assert str(os.getpid()) not in simulated_by


def test_a_defect_hides_an_event(field: Field) -> None:
    """No real candidate sits on a cosmic ray, a hot pixel or a saturated star."""
    for detection in detect(field):
        if detection.cause == Cause.NONE:
            patch = field.cause[detection.y - 2 : detection.y + 3, detection.x - 2 : detection.x + 3]
            assert Cause(int(patch.max())) not in DETECTOR


def test_cut_puts_the_peak_in_place_and_nan_off_the_chip(field: Field) -> None:
    for size in (30, 63):
        stamp = cut(field, BORDER + 50, BORDER + 70, size)
        assert stamp.shape == (3, size, size)
        assert stamp[0, size // 2, size // 2] == field.science[BORDER + 70, BORDER + 50]
    corner = cut(field, 5, 5, 63)
    assert np.isnan(corner[:, :20, :20]).all()


def test_unknown_survey_and_empty_count_are_refused() -> None:
    with pytest.raises(ValueError, match="no simulated geometry for survey 'sdss'"):
        generate("sdss", 1, 1)
    with pytest.raises(ValueError, match="at least 1"):
        generate("ztf", 0, 1)
