"""The reference of a bundle counts the survey's alerts as the service would."""

from __future__ import annotations

import numpy as np

from space2vec.training.labelled import Labelled
from space2vec.training.watch import alerts, reference
from space2vec.workers.manifest import InputSpec

SPEC = InputSpec(size=31)


def labelled(survey: str, **columns: list[str]) -> Labelled:
    rng = np.random.default_rng(2)
    return Labelled(survey, rng.normal(size=(6, 3, 63, 63)).astype(np.float32), np.full((6, 2), 63), columns)


def test_counts_scores_and_flags_of_every_alert() -> None:
    stamps = labelled("ztf")
    stamps.triplets[1, 2, 30] = np.nan
    stamps.triplets[2, :, 40:] = np.nan
    stamps.shapes[2] = (40, 63)
    found = reference(stamps, SPEC, lambda inputs: np.linspace(0, 1, len(inputs)))
    assert sum(found["score"].counts) == 6
    assert found["flags"].counts[:3] == (4, 1, 1)  # none, nan, truncated
    assert {"centre_difference", "spread_science"} <= found.keys()


def test_negative_sources_of_lsst_are_turned_and_those_of_ztf_are_not() -> None:
    assert not any(alert.negative for alert in alerts(labelled("ztf")))
    turned = alerts(labelled("lsst", isNegative=["True", "False"] * 3))
    assert [alert.negative and not alert.flipped for alert in turned] == [True, False] * 3


def test_rehearsals_are_no_reference() -> None:
    sky, rehearsal = "LSSTCam on-sky", "simulated OR4 (mjd 60488)"
    stamps = labelled("lsst", isNegative=["False"] * 6, epoch=[sky, sky, rehearsal, sky, rehearsal, sky])
    found = reference(stamps, SPEC, lambda inputs: np.zeros(len(inputs)))
    assert sum(found["score"].counts) == 4
