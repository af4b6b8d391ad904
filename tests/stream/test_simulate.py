from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pytest

from space2vec.schemas.alert import Alert
from space2vec.schemas.exit_codes import OK
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.writers import writer_schemas
from space2vec.stream.cli import run_command
from space2vec.stream.publish import paced
from space2vec.stream.simulated import simulated_alerts


def test_the_same_seed_gives_the_same_packets_and_another_others() -> None:
    first, again, other = (
        [alert.packet for alert in simulated_alerts("both", 6, seed)] for seed in (4, 4, 5)
    )
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.usefixtures("ray_cluster")
def test_processes_do_not_change_the_packets() -> None:
    alone, shared = (
        [alert.packet for alert in simulated_alerts("both", 90, 4, processes)] for processes in (1, 2)
    )
    assert alone == shared


def test_half_of_each_survey_each_alert_named_once() -> None:
    alerts = list(simulated_alerts("both", 7, seed=1))
    assert sorted(alert.survey for alert in alerts) == ["lsst"] * 4 + ["ztf"] * 3
    assert len({(alert.survey, alert.alert_id) for alert in alerts}) == 7
    assert len({alert.object_id for alert in alerts}) == 7


def test_what_is_written_can_be_read_and_the_truth_stands_beside(tmp_path: Path) -> None:
    assert run_command(["simulate", "--count", "6", "--out", str(tmp_path)]) == OK
    with (tmp_path / "truth.csv").open() as file:
        truth = {row["file"]: row for row in csv.DictReader(file)}
    assert len(truth) == 6
    reader = PacketReader(writer_schemas(SchemaSettings(folder=tmp_path / "schemas")))
    for name, row in truth.items():
        (alert,) = reader.read((tmp_path / name).read_bytes())
        assert isinstance(alert, Alert)
        assert not alert.faults
        assert (alert.survey, str(alert.alert_id), alert.object_id) == (
            row["survey"],
            row["alert_id"],
            row["object_id"],
        )
        assert bool(row["kind"]) == (row["real"] == "1")
        assert bool(row["cause"]) == (row["real"] == "0")


def test_the_difference_is_upright_whatever_the_sign() -> None:
    """Read back, the stamps are those simulated: science minus template, turned over where the survey does."""
    reader = PacketReader()
    alerts = list(simulated_alerts("ztf", 40, seed=2))
    found = [next(reader.read(alert.packet)) for alert in alerts]
    assert any(isinstance(alert, Alert) and alert.flipped for alert in found)
    for simulated, alert in zip(alerts, found, strict=True):
        assert isinstance(alert, Alert)
        for stamp, expected in zip(alert.stamps.values(), simulated.stamps, strict=True):
            assert stamp.tobytes() == expected.tobytes()


def test_an_archive(tmp_path: Path) -> None:
    out = tmp_path / "night.tar.gz"
    arguments = ["simulate", "--survey", "lsst", "--count", "3", "--out", str(out)]
    assert run_command([*arguments, "--write-schemas", str(tmp_path / "s")]) == OK
    with tarfile.open(out) as archive:
        names = archive.getnames()
    assert len(names) == 4
    assert names[-1] == "truth.csv"
    assert json.loads((tmp_path / "s" / "1100.avsc").read_text())["name"] == "lsst.v11_0.alert"


def test_no_faster_than_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("space2vec.stream.publish.time.monotonic", lambda: now)
    monkeypatch.setattr("space2vec.stream.publish.time.sleep", sleep)
    assert [(thing, now) for thing in paced("abc", 2.0)] == [("a", 0.0), ("b", 0.5), ("c", 1.0)]
    assert list(paced("abc", None)) == ["a", "b", "c"]
