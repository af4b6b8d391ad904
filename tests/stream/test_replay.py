"""What a replay writes into a folder: every packet, by night, in Parquet or Avro, with what scored it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from replaying import archive_of, replayed, rows_of

from space2vec.schemas.settings import Settings
from space2vec.stream import replay_folder
from space2vec.stream.parquet_tables import alerts_table
from space2vec.stream.replay_archives import Archive, find_archives
from space2vec.stream.replay_audit import audit_replay
from space2vec.training.packets import ztf_packet


def test_every_packet_is_a_row_or_rejected_whole(tmp_path: Path, make_alerts, small_parts: None) -> None:
    sent = make_alerts(ztf=70, poison=6)
    out = tmp_path / "out"
    ended = replayed(archive_of(tmp_path / "night.tar.gz", [s.packet for s in sent]), f"parquet:{out}")
    rows = rows_of(out)
    good = {number: s for number, s in enumerate(sent) if s.alert_id is not None}
    bad = {number: s for number, s in enumerate(sent) if s.alert_id is None}
    assert {row["member"]: row["alert_id"] for row in rows} == {n: s.alert_id for n, s in good.items()}
    rejected = [row for path in (out / "rejected").iterdir() for row in pq.read_table(path).to_pylist()]
    assert {row["member"]: row["packet"] for row in rejected} == {n: s.packet for n, s in bad.items()}
    assert all(row["file"] == f"{row['member']}.avro" and row["reason"] and row["detail"] for row in rejected)
    assert (ended.done, ended.counts.messages, ended.counts.rejected) == (True, 76, 6)
    assert ended.counts.scored + ended.counts.degraded == 70
    (account,) = audit_replay(Settings(), f"parquet:{out}")
    assert account.balanced
    assert not account.findings
    assert account.messages == 76


def test_rows_go_by_the_night_they_were_observed_in(tmp_path: Path, small_parts: None) -> None:
    stamps = [np.random.default_rng(1).normal(size=(63, 63)).astype(np.float32) for _ in range(3)]
    packets = [
        ztf_packet(*stamps, alert_id=i, object_id=f"ZTF{i}", jd=jd, ra=1.0, dec=2.0)
        for i, jd in enumerate(
            [2458451.7, 2458451.9999, 2458452.02]
        )  # 29 November 2018, 4:48, 12:00, 12:29 UTC
    ]
    replayed(archive_of(tmp_path / "n.tar.gz", packets), f"parquet:{tmp_path / 'out'}")
    nights = {
        p.name: sum(pq.read_metadata(f).num_rows for f in p.iterdir())
        for p in (tmp_path / "out/alerts").iterdir()
    }
    assert nights == {"night=20181128": 1, "night=20181129": 2}


def test_the_file_says_what_scored(archive: Archive, tmp_path: Path) -> None:
    replayed(archive, f"parquet:{tmp_path / 'out'}")
    path = next((tmp_path / "out/alerts").rglob("*.parquet"))
    schema = pq.read_schema(path)
    told = {name.decode(): value.decode() for name, value in schema.metadata.items() if b"space2vec" in name}
    assert told["space2vec.model"] == "core"
    assert len(told["space2vec.sha256"]) == 64
    assert told["space2vec.digest"] == archive.digest
    assert {"p_real", "p_bogus", "score", "logit", "flags"} < set(schema.names)


def test_what_a_bundle_tells_beyond_real_and_bogus_has_columns_too() -> None:
    def told(*labels: str) -> list[dict[str, Any]]:
        return [{"label": label, "classId": None, "probability": 1 / len(labels)} for label in labels]

    row = {
        "survey": "ztf", "alert_id": 1, "object_id": None, "mjd_tai": 61300.5, "ra": 1.0, "dec": 2.0,
        "status": "degraded", "score": 0.5, "logit": 0.0, "spread": 0.25, "flags": ["edge", "nan"], "passes": ["pure"],
        "classifications": told("real", "bogus"), "kinds": told("supernova", "star"), "causes": told("dipole"),
        "embedding": [1.0, 2.0], "archive": "n.tar", "member": 3,
    }  # fmt: skip
    (found,) = pq.read_table(io.BytesIO(alerts_table([row], {"model": "made"}))).to_pylist()
    assert (found["flags"], found["passes"], found["embedding"]) == ("edge nan", "pure", [1.0, 2.0])
    assert found["spread"] == 0.25
    assert {name: value for name, value in found.items() if name.startswith(("p_", "kind_", "cause_"))} == {
        "p_real": 0.5, "p_bogus": 0.5, "kind_supernova": 0.5, "kind_star": 0.5, "cause_dipole": 1.0,
    }  # fmt: skip


def test_avro_parts_hold_classification_records(archive: Archive, tmp_path: Path) -> None:
    import fastavro

    ended = replayed(archive, f"avro:{tmp_path / 'out'}")
    replayed(archive, f"parquet:{tmp_path / 'tables'}")
    records = []
    for path in sorted((tmp_path / "out/alerts").rglob("*.avro")):
        with path.open("rb") as file:
            records += list(fastavro.reader(file))
    rows = rows_of(tmp_path / "tables")
    assert [(r["offset"], r["alert_id"], r["logit"]) for r in records] == [
        (row["member"], row["alert_id"], row["logit"]) for row in rows
    ]
    assert len(records) == ended.counts.messages - ended.counts.rejected == 150


def test_many_rejected_packets_end_a_part_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    monkeypatch.setattr(replay_folder, "PART_BYTES", 10_000)
    ended = replayed(archive_of(tmp_path / "n.tar.gz", [b"x" * 3000] * 40), f"parquet:{tmp_path / 'out'}")
    assert ended.counts.rejected == 40
    manifest = json.loads(next((tmp_path / "out/manifests").glob("*.json")).read_text())
    assert [(part["first"], part["end"]) for part in manifest["parts"]] == [
        (i, i + 4) for i in range(0, 40, 4)
    ]


def test_an_archive_cut_off_is_replayed_as_far_as_it_goes(
    tmp_path: Path, make_alerts, small_parts: None
) -> None:
    whole = tmp_path / "night.tar.gz"
    archive_of(whole, [s.packet for s in make_alerts(ztf=60)])
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    ended = replayed(find_archives([str(cut)])[0], f"parquet:{tmp_path / 'out'}")
    assert ended.done
    assert 25 <= ended.counts.messages <= 33
    assert len(rows_of(tmp_path / "out")) == ended.counts.messages
    (fault,) = ended.faults
    assert "cut.tar.gz" in fault
    assert replayed(find_archives([str(cut)])[0], f"parquet:{tmp_path / 'out'}").faults == ended.faults
