"""Packets of every layout that we can make: what the fuzzers spoil, and what `bench/same.py` compares."""

from __future__ import annotations

from typing import Any

import numpy as np

from space2vec.schemas.packet import WriterSchema
from space2vec.schemas.writer_schema import writer_schema
from space2vec.schemas.writers import ChainedSchemas
from space2vec.training.packet_schemas import ZTF_VERSIONS, lsst_writer_schema
from space2vec.training.packets import lsst_packet, ztf_packet


def good_packets(count: int, first: int = 0) -> list[bytes]:
    """Make packets by number, cut stamps and missing ones among them."""
    rng, packets = np.random.default_rng(first), []
    for number in range(first, first + count):
        rows = (63, 63, 63, 41, 30, 102)[number % 6]
        triplet: list[Any] = list(rng.normal(300, 12, (3, rows, max(rows, 63))).astype(np.float32))
        if number % 7 == 3:
            triplet[0][:9] = np.nan
        if number % 11 == 5:
            triplet[1] = None
        where: dict[str, Any] = {
            "ra": 150.0,
            "dec": 2.0,
            "alert_id": 2695378462115010012 + number,
            "negative": number % 3 == 0,
        }
        where["history"] = (0, 0, 3, 30, 60)[number % 5]
        if number % 2:
            version = ZTF_VERSIONS[number // 2 % len(ZTF_VERSIONS)]
            codec = ("null", "null", "deflate", "snappy")[number % 4]
            packets.append(
                ztf_packet(*triplet, object_id="ZTF1", jd=2460449.9, schema=version, codec=codec, **where)
            )
        else:
            schema_id = (800, 900, 1000, 1100)[number // 2 % 4]
            packets.append(lsst_packet(*triplet, object_id=7, mjd_tai=61095.3, schema_id=schema_id, **where))
    return packets


class MadeSchemas:
    """The writer schemas of those laid out as LSST's."""

    def __init__(self) -> None:
        ids = (800, 900, 1000, 1100)
        self._made = {id_: writer_schema(lsst_writer_schema(f"{id_ // 100}.0")) for id_ in ids}

    def get(self, schema_id: int) -> WriterSchema:
        if schema_id in self._made:
            return self._made[schema_id]
        return ChainedSchemas([]).get(schema_id)
