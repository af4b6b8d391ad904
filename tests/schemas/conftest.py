"""Packets that the tests of this room make themselves."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from numpy.typing import NDArray

from space2vec.schemas.alert import Alert
from space2vec.schemas.errors import PacketError
from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.writer_schema import writer_schema
from space2vec.training.packet_schemas import lsst_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet

Triplet = NDArray[np.float32]


@pytest.fixture(scope="session")
def triplet() -> Callable[..., Triplet]:
    """Make a triplet (3, rows, cols): a source over noise, the difference being science minus template."""

    def make(rows: int = 63, cols: int | None = None, seed: int = 1) -> Triplet:
        cols = rows if cols is None else cols
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:rows, :cols]
        source = 500 * np.exp(-((y - rows // 2) ** 2 + (x - cols // 2) ** 2) / 8)
        science = rng.normal(100, 5, (rows, cols)) + source
        template = rng.normal(100, 5, (rows, cols))
        return np.stack([science, template, science - template]).astype(np.float32)

    return make


@pytest.fixture
def ztf(triplet: Callable[..., Triplet]) -> Callable[..., bytes]:
    """Make a ZTF-like packet; keyword arguments go to ``ztf_packet``."""

    def make(stamps: Any = None, **changes: Any) -> bytes:
        stamps = triplet() if stamps is None else stamps
        given = {
            "alert_id": 2695378462115010012,
            "object_id": "ZTF18abudxnw",
            "jd": 2460449.8784606,
            "ra": 295.3031995,
            "dec": -10.3958989,
        }
        return ztf_packet(*stamps, **given | changes)

    return make


@pytest.fixture
def lsst(triplet: Callable[..., Triplet]) -> Callable[..., bytes]:
    """Make an LSST-like packet; keyword arguments go to ``lsst_packet``."""

    def make(stamps: Any = None, **changes: Any) -> bytes:
        stamps = triplet(30) if stamps is None else stamps
        given = {
            "alert_id": 169298433221853273,
            "object_id": 169298433221850001,
            "mjd_tai": 61095.33222194851,
            "ra": 9.215397496461804,
            "dec": -42.83254130223859,
        }
        return lsst_packet(*stamps, **given | changes)

    return make


class MadeSchemas:
    """Writer schemas of the LSST-like packets."""

    def __init__(self) -> None:
        self.made = {
            id_: writer_schema(lsst_writer_schema(f"{id_ // 100}.0")) for id_ in (800, 900, 1000, 1100)
        }

    def get(self, schema_id: int) -> WriterSchema:
        return self.made[schema_id]


@pytest.fixture(scope="session")
def made_schemas() -> MadeSchemas:
    return MadeSchemas()


@pytest.fixture
def reader(made_schemas: MadeSchemas) -> PacketReader:
    return PacketReader(made_schemas)


@pytest.fixture
def one(reader: PacketReader) -> Callable[[bytes], Alert]:
    """Read a packet that holds exactly one readable alert."""

    def read(raw: bytes) -> Alert:
        (alert,) = reader.read(raw)
        assert isinstance(alert, Alert), alert
        return alert

    return read


@pytest.fixture
def error(reader: PacketReader) -> Callable[[bytes], PacketError]:
    """Read a packet that gives exactly one error."""

    def read(raw: bytes) -> PacketError:
        (found,) = reader.read(raw)
        assert isinstance(found, PacketError), found
        return found

    return read


@pytest.fixture
def container() -> Callable[..., bytes]:
    """Write a container with fastavro, as others would."""

    def write(schema: Any, *records: dict[str, Any], codec: str = "null") -> bytes:
        buffer = BytesIO()
        fastavro.writer(buffer, schema, records, codec=codec, sync_marker=b"0123456789abcdef")
        return buffer.getvalue()

    return write
