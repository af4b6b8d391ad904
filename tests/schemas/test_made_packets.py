"""Our own packets lie on the wire as the surveys' do."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from astropy.io import fits

from space2vec.schemas.writer_schema import writer_schema
from space2vec.training.packet_schemas import (
    LSST_VERSIONS,
    ZTF_VERSIONS,
    lsst_writer_schema,
    ztf_writer_schema,
)

Make = Callable[..., bytes]
# SHA-256 of the parsing canonical form of the schemas in Rubin's registry.
RUBIN = {"8.0": "264a45e5ef19", "9.0": "017239c3ff79", "10.0": "2c47c696524b", "11.0": "9c2dfb211e03"}


def image(content: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(BytesIO(content), ignore_missing_simple=True) as hdus:
            return [(hdu.name, np.array(hdu.data)) for hdu in hdus]


@pytest.mark.parametrize("version", ZTF_VERSIONS)
@pytest.mark.parametrize("negative", [False, True])
def test_ztf(ztf: Make, triplet: Callable[..., Any], version: str, negative: bool) -> None:
    (record,) = fastavro.reader(BytesIO(ztf(schema=version, negative=negative, history=3)))
    assert [*record][-3:] == ["cutoutScience", "cutoutTemplate", "cutoutDifference"]
    assert len(record["prv_candidates"]) == 3
    assert record["candidate"]["isdiffpos"] == ("f" if negative else "t")
    science, template, difference = triplet()
    for name, expected in (("Science", science), ("Template", template), ("Difference", difference)):
        cutout = record[f"cutout{name}"]
        plain = gzip.decompress(cutout["stampData"])
        assert plain.startswith(b"SIMPLE  =  T ")
        assert len(plain) == 20_160
        turned = negative and name == "Difference"
        np.testing.assert_array_equal(image(plain)[0][1], -expected if turned else expected)
    assert ("_refmsci" if negative else "_scimref") in record["cutoutDifference"]["fileName"]


def test_ztf_unions_turned_over_with_version_4() -> None:
    def first_branch(version: str) -> Any:
        return ztf_writer_schema(version)["fields"][-1]["type"][0]

    assert [first_branch(version) == "null" for version in ZTF_VERSIONS] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("version", LSST_VERSIONS)
def test_lsst(lsst: Make, triplet: Callable[..., Any], version: str) -> None:
    schema_id = int(float(version) * 100)
    raw = lsst(schema_id=schema_id, history=2)
    assert raw[:5] == b"\x00" + schema_id.to_bytes(4, "big")
    source = BytesIO(raw[5:])
    record: Any = fastavro.schemaless_reader(source, lsst_writer_schema(version), None)
    assert source.read() == b""
    assert [*record][-3:] == ["cutoutDifference", "cutoutScience", "cutoutTemplate"]
    assert len(record["prvDiaSources"]) == len(record["prvDiaForcedSources"]) == 2
    for name, expected in zip(("Science", "Template", "Difference"), triplet(30), strict=True):
        (primary, pixels), (variance_name, variance), (psf_name, psf) = image(record[f"cutout{name}"])
        np.testing.assert_array_equal(pixels, expected)
        assert (primary, variance_name, psf_name) == ("PRIMARY", "UNCERT", "PSFIMAGE")
        assert (variance.shape, psf.shape, psf.dtype) == ((30, 30), (41, 41), np.dtype(">f8"))
        assert len(record[f"cutout{name}"]) == 34_560


@pytest.mark.parametrize("version", LSST_VERSIONS)
def test_lsst_schemas_are_those_of_the_registry(version: str) -> None:
    assert writer_schema(lsst_writer_schema(version)).fingerprint.startswith(RUBIN[version])


@pytest.mark.parametrize("schema", [ztf_writer_schema, lsst_writer_schema])
def test_unknown_versions(schema: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="known are"):
        schema("3.2")


def test_sizes(ztf: Make, lsst: Make) -> None:
    assert 55_000 < len(ztf(history=20)) < 80_000
    assert 100_000 < len(lsst()) < 140_000
    assert 220_000 < len(lsst(history=350)) < 300_000


def test_schema_of_made_packets_is_whole() -> None:
    assert len(lsst_writer_schema()["fields"][3]["type"]["fields"]) == 98
    assert len(ztf_writer_schema()["fields"][4]["type"]["fields"]) == 103
