"""Packets of every schema: each version of a survey, what libraries refuse, and those of no survey that is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from few_fields import FORMS, STAMP, nullable, ztf_like

from space2vec.schemas.alert import Alert, Plane
from space2vec.schemas.container import container_header
from space2vec.schemas.errors import PacketError, Reason
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.training.packet_schemas import LSST_VERSIONS, ZTF_VERSIONS

Make = Callable[..., bytes]
One = Callable[[bytes], Alert]
Failure = Callable[[bytes], PacketError]


def rewritten(raw: bytes, schema: str) -> bytes:
    """Put another schema into a container's header."""
    header = container_header(schema)
    return header + raw[raw.index(raw[-16:]) + 16 :].replace(raw[-16:], header[-16:])


class TestSchemas:
    @pytest.mark.parametrize("version", ZTF_VERSIONS)
    @pytest.mark.parametrize("history", [0, 30])
    def test_every_version_of_ztf(self, ztf: Make, one: One, version: str, history: int) -> None:
        alert = one(ztf(schema=version, history=history, negative=True))
        assert (alert.survey, alert.negative, alert.flipped) == ("ztf", True, True)
        assert alert.schema_version == (None if version == "1.8" else version)
        assert len(alert.stamps) == 3

    @pytest.mark.parametrize("version", LSST_VERSIONS)
    @pytest.mark.parametrize("history", [0, 30])
    def test_every_version_of_lsst(self, lsst: Make, one: One, version: str, history: int) -> None:
        alert = one(lsst(schema_id=int(float(version) * 100), history=history))
        assert (alert.survey, alert.alert_id) == ("lsst", 169298433221853273)
        assert len(alert.stamps) == 3

    def test_defaults_that_libraries_refuse(self, container: Make, one: One) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP})
        raw = container(schema, record)
        broken = json.dumps(schema).replace('"type": "int"', '"type": "int", "default": null')
        alert = one(rewritten(raw, broken))
        assert alert.packet.writer.repaired
        assert alert.alert_id == 5

    def test_types_defined_twice(self, container: Make, one: One) -> None:
        cutout = {"type": "record", "name": "cutout", "fields": [{"name": "stampData", "type": "bytes"}]}
        stamps = {"cutoutScience": {"stampData": STAMP}, "cutoutDifference": {"stampData": STAMP}}
        schema, record = ztf_like(stamps, cutoutScience=cutout, cutoutDifference="cutout")
        twice = json.dumps(schema).replace('"type": "cutout"', '"type": ' + json.dumps(cutout))
        alert = one(rewritten(container(schema, record), twice))
        assert set(alert.stamps) == {Plane.SCIENCE, Plane.DIFFERENCE}

    def test_union_at_the_top(self, container: Make, reader: PacketReader) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP})
        other = {"type": "record", "name": "other", "fields": [{"name": "n", "type": "int"}]}
        alert, stranger = reader.read(container([other, schema], record, {"n": 1}))
        assert isinstance(alert, Alert)
        assert alert.alert_id == 5
        assert isinstance(stranger, PacketError)
        assert stranger.reason is Reason.UNKNOWN_SURVEY

    def test_brokers_copies_where_all_is_nullable(self, container: Make, one: One) -> None:
        cutout = {
            "type": "record",
            "name": "cutoutScience",
            "namespace": "topLevelRecord",
            "fields": [
                {"name": n, "type": nullable(k)} for n, k in (("fileName", "string"), ("stampData", "bytes"))
            ],
        }
        schema, record = ztf_like(
            {
                "timestamp": 1 << 62,
                "cutoutScience": {"fileName": None, "stampData": STAMP},
                "cdsxmatch": None,
            },
            candid=nullable("long"),
            objectId=nullable("string"),
            timestamp=nullable({"type": "long", "logicalType": "timestamp-micros"}),
            cutoutScience=nullable(cutout),
            cdsxmatch=nullable("string"),
            **{name: nullable(kind) for name, kind in FORMS.items()},
        )
        schema["name"] = "topLevelRecord"
        alert = one(container(schema, record))
        assert (alert.survey, alert.alert_id) == ("ztf", 5)
        assert Plane.SCIENCE in alert.stamps

    def test_lsst_before_version_8(self, container: Make, one: One) -> None:
        forms = {"diaSourceId": "long", "diaObjectId": nullable("long"), "midpointMjdTai": "double"}
        forms |= {
            "ra": "double",
            "dec": "double",
            "is_negative": nullable("boolean"),
            "psfFlux": nullable("float"),
        }
        source = {
            "type": "record",
            "name": "diaSource",
            "fields": [{"name": n, "type": k} for n, k in forms.items()],
        }
        fields = [{"name": "alertId", "type": "long"}, {"name": "diaSource", "type": source}]
        fields += [{"name": "cutoutScience", "type": nullable("bytes")}]
        values = {
            "diaSourceId": 7,
            "diaObjectId": 0,
            "midpointMjdTai": 60488.0,
            "ra": 1.0,
            "dec": float("nan"),
        }
        record = {"alertId": 8, "diaSource": values | {"psfFlux": -3.0}, "cutoutScience": STAMP}
        alert = one(container({"type": "record", "name": "alert", "fields": fields}, record))
        assert (alert.survey, alert.alert_id, alert.object_id) == ("lsst", 7, None)
        assert (alert.ra, alert.dec, alert.negative) == (1.0, None, True)


class TestSurveys:
    def test_unknown(self, container: Make, error: Failure) -> None:
        schema = {"type": "record", "name": "ztf.alert", "fields": [{"name": "candid", "type": "long"}]}
        found = error(container(schema, {"candid": 1}))
        assert found.reason is Reason.UNKNOWN_SURVEY
        assert "ztf needs candidate.jd, candidate.isdiffpos, candidate.rcid" in found.detail
        assert "lsst needs diaSource.diaSourceId" in found.detail
        assert found.detail.endswith("no field could hold a cutout")

    def test_unknown_with_a_cutout(self, container: Make, error: Failure) -> None:
        fields = [{"name": "picture", "type": nullable("bytes")}]
        found = error(container({"type": "record", "name": "x", "fields": fields}, {"picture": STAMP}))
        assert found.reason is Reason.UNKNOWN_SURVEY
        assert "could hold" not in found.detail

    def test_told(self, container: Make) -> None:
        schema, record = ztf_like({"cutoutScience": STAMP}, {"jd": 2460449.5})
        raw = container(schema, record)
        (found,) = PacketReader().read(raw)
        assert isinstance(found, PacketError)
        (alert,) = PacketReader(survey="ztf").read(raw)
        assert isinstance(alert, Alert)
        assert (alert.survey, alert.alert_id, alert.ra) == ("ztf", 5, None)


def test_a_schema_is_worked_out_once_though_it_fits_no_survey(
    container: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched = []
    match = Profiles.match

    def counted(self: Profiles, present: Any) -> Any:
        matched.append(present)
        return match(self, present)

    monkeypatch.setattr(Profiles, "match", counted)
    schema = {"type": "record", "name": "x", "fields": [{"name": "picture", "type": "bytes"}]}
    first, second, third = PacketReader().read(container(schema, *[{"picture": b""}] * 3))
    assert isinstance(first, PacketError)
    assert str(first) == str(second) == str(third)
    assert first is not second
    assert len(matched) == 1
