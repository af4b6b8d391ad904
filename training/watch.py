"""What a bundle carries as its reference, against which drift is measured: the labelled real alerts, as served."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.packet import Packet
from space2vec.training.labelled import Labelled
from space2vec.training.surveys import geometry_of
from space2vec.training.tiers import on_sky
from space2vec.workers.manifest import Counted, InputSpec
from space2vec.workers.preprocess import Preprocessor
from space2vec.workers.reference import reference_of


def reference(
    labelled: Labelled, spec: InputSpec, probability: Callable[[NDArray[np.float32]], NDArray[np.float64]]
) -> dict[str, Counted]:
    """Count a survey's alerts for the manifest's ``reference``: all that it sent from the sky, whatever their labels.

    Parameters
    ----------
    labelled : Labelled
        The survey's.
    spec : InputSpec
        The bundle's input.
    probability : callable
        Published probabilities ``(N,)`` of network inputs.
    """
    rows = np.flatnonzero(on_sky(labelled))
    prepared = Preprocessor(spec).prepare(alerts(labelled.take(rows)))
    return reference_of(prepared.stamps, spec, probability(prepared.stamps), prepared.flags)


def alerts(labelled: Labelled) -> list[Alert]:
    """Make alerts of labelled stamps; what the table does not tell, nor preprocessing needs, is left out."""
    survey, geometry = labelled.survey, geometry_of(labelled.survey)
    turned = np.zeros(len(labelled.shapes), bool)
    if not geometry.flips_negative:
        turned = labelled.text("isNegative") == "True"
    return [
        Alert(
            survey=survey,
            alert_id=number,
            object_id=None,
            mjd_tai=None,
            ra=None,
            dec=None,
            negative=bool(negative),
            flipped=geometry.flips_negative,
            x=None,
            y=None,
            nominal_size=geometry.stamp if survey == "ztf" else None,
            stamps={plane: stamp[:rows, :columns] for plane, stamp in zip(Plane, triplet, strict=True)},
            faults={},
            schema_version=None,
            packet=cast(Packet, None),
        )
        for number, (triplet, (rows, columns), negative) in enumerate(
            zip(labelled.triplets, labelled.shapes.tolist(), turned, strict=True)
        )
    ]
