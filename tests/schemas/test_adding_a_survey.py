"""The example of docs/adding-a-survey.md, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.profiles import Profile, Profiles
from space2vec.schemas.reader import PacketReader

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-survey.md"
SOURCE = {"name": "string", "epoch": "double", "ra": "double", "decl": "double", "rises": "string"}
SOURCE |= {"column": "float", "row": "float"}


def fields(kinds: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "type": kind} for name, kind in kinds.items()]


@pytest.fixture
def profiles(tmp_path: Path) -> Profiles:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "aurora.toml").write_text(example)
    return Profiles.load(tmp_path)


def test_the_example_reads_an_alert(
    profiles: Profiles,
    container: Callable[..., bytes],
    ztf: Callable[..., bytes],
    triplet: Callable[..., Any],
) -> None:
    (other,) = PacketReader().read(ztf())
    assert isinstance(other, Alert)
    borrowed = other.packet.decode()
    stamps = [borrowed[f"cutout{name}"]["stampData"] for name in ("Science", "Template", "Difference")]
    source = {"type": "record", "name": "source", "fields": fields(SOURCE)}
    kinds = {
        "alertNumber": "long",
        "source": source,
        **dict.fromkeys(("imgNew", "imgOld", "imgSub"), "bytes"),
    }
    values = {
        "name": "AUR26a",
        "epoch": 61095.31,
        "ra": 150.1,
        "decl": 2.2,
        "rises": "n",
        "column": 1024,
        "row": 77.5,
    }
    record = dict(zip(kinds, (881, values, *stamps), strict=True))
    raw = container({"type": "record", "name": "anything", "fields": fields(kinds)}, record)
    (alert,) = PacketReader(profiles=profiles).read(raw)
    assert isinstance(alert, Alert)
    assert (alert.survey, alert.alert_id, alert.object_id) == ("aurora", 881, "AUR26a")
    assert (alert.ra, alert.dec, alert.x, alert.y) == (150.1, 2.2, 1023.0, 76.5)
    assert (alert.negative, alert.flipped, alert.nominal_size) == (True, True, 63)
    assert alert.mjd_tai == pytest.approx(61095.31 + (37 + 30) / 86400, abs=1e-9)
    for plane, expected in zip(Plane, triplet(), strict=True):
        np.testing.assert_array_equal(alert.stamps[plane], expected)


def test_every_key_it_shows_exists(profiles: Profiles) -> None:
    shown = set(profiles["aurora"].model_dump(exclude_unset=True))
    assert shown == set(Profile.model_fields) - {"lacks", "schema_version"}


def test_it_names_every_shipped_survey() -> None:
    page = PAGE.read_text().lower()
    shipped = [file.stem for file in (PAGE.parents[1] / "schemas" / "surveys").glob("*.toml")]
    assert len(shipped) == 8
    assert [survey for survey in shipped if survey not in page] == []
