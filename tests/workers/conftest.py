"""What the workers' tests share: made-up alerts, and a small bundle with untrained weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.errors import Reason, StampError
from space2vec.schemas.packet import Packet
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.manifest import Architecture, Calibration, InputSpec, Manifest, Outputs

Stamps = NDArray[np.float32]


def sky(seed: int, shape: tuple[int, ...] = (63, 63), pedestal: float = 300.0, noise: float = 12.0) -> Stamps:
    """Noise on a pedestal, as a science stamp has it."""
    return np.random.default_rng(seed).normal(pedestal, noise, shape).astype(np.float32)


def triplets(count: int, size: int = 63, seed: int = 0) -> Stamps:
    """Triplets with a source at the centre, of fluxes from faint to bright."""
    stamps = sky(seed, (count, 3, size, size))
    rows, cols = np.mgrid[:size, :size] - size // 2
    source = np.exp(-(rows**2 + cols**2) / 4.0)
    flux = np.geomspace(30, 3000, count)[:, None, None]
    stamps[:, 0] += flux * source
    stamps[:, 2] += flux * source - 300.0
    return stamps


@pytest.fixture(scope="session")
def make_triplets() -> Callable[..., Stamps]:
    """Give :func:`triplets`: ``make_triplets(count, size=63, seed=0)``."""
    return triplets


@pytest.fixture
def make_alert() -> Callable[..., Alert]:
    """Make an alert from stamps in plane order; ``None`` for one that is missing."""

    def make(stamps: Any, reasons: dict[Plane, Reason] | None = None, **fields: Any) -> Alert:
        present = {plane: stamp for plane, stamp in zip(Plane, stamps, strict=True) if stamp is not None}
        faults = {
            plane: StampError(
                (reasons or {}).get(plane, Reason.STAMP_MISSING), "null", field=f"cutout_{plane}"
            )
            for plane in Plane
            if plane not in present
        }
        known: dict[str, Any] = {
            "survey": "made", "alert_id": 7, "object_id": "OBJ", "mjd_tai": None, "ra": None, "dec": None,
            "negative": False, "flipped": False, "x": None, "y": None, "nominal_size": 63,
            "schema_version": None, "packet": cast(Packet, None),
        }  # fmt: skip
        return Alert(**(known | fields), stamps=present, faults=faults)

    return make


@pytest.fixture(scope="session")
def made_manifest() -> Manifest:
    """A manifest as training has it: files not yet listed."""
    return Manifest(
        name="made",
        version="1",
        architecture=Architecture(kind="core", parameters={"width": 4}),
        input=InputSpec(size=31),
        outputs=Outputs(embedding=8),
        calibration=Calibration(temperature=0.8),
        training={"seed": 0},
    )


@pytest.fixture(scope="session")
def made_bundle(made_manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small bundle with untrained weights, golden vectors with NaN among them; not to be altered."""
    import torch

    from space2vec.workers.export import write_bundle
    from space2vec.workers.networks import build_network

    torch.manual_seed(1)
    network = build_network(made_manifest.architecture, made_manifest.input, made_manifest.outputs)
    golden = triplets(6)
    golden[0, :, :, 58:] = np.nan
    golden[1, 0, 31, 31] = np.nan
    golden[2, 1] = np.nan
    return write_bundle(tmp_path_factory.mktemp("bundle") / "made", made_manifest, network, golden)


@pytest.fixture
def bundle_copy(made_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the small bundle that a test may spoil."""
    return load_bundle(shutil.copytree(made_bundle.path, tmp_path / "copy"))
