from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
from PIL import Image

from space2vec.schemas.errors import PacketError
from space2vec.schemas.exit_codes import OK, USAGE
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import SchemaSettings
from space2vec.schemas.writers import writer_schemas
from space2vec.stream.broker_embedded import EmbeddedBroker
from space2vec.stream.cli import run_command
from space2vec.stream.commands.demo import _page, balanced
from space2vec.stream.demo import Result, demo_settings
from space2vec.stream.demo_report import area
from space2vec.stream.poison import poison
from space2vec.stream.reconcile import Totals
from space2vec.stream.simulated import simulated_alerts, writer_schema_files
from space2vec.stream.summary import Summary
from space2vec.workers.bundle import load_bundle
from space2vec.workers.preprocess import Preprocessor

KEYS = [
    "published", "consumed", "scored", "degraded", "rejected", "annotated", "lost", "duplicated",
    "alerts_per_s", "latency_p50_s", "latency_p99_s",
]  # fmt: skip


@pytest.mark.ray
def test_the_demo_accounts_for_every_alert(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["demo", "--alerts", "60", "--out", str(tmp_path), "--json"]) == OK
    told = capfd.readouterr()
    (line,) = told.out.splitlines()
    accounts = json.loads(line)
    assert list(accounts) == KEYS
    assert accounts["published"] == accounts["consumed"] == 60
    assert accounts["scored"] + accounts["degraded"] + accounts["rejected"] == 60
    assert accounts["annotated"] == accounts["scored"] + accounts["degraded"]
    assert (accounts["lost"], accounts["duplicated"]) == (0, 0)
    assert accounts["rejected"] == 7
    assert accounts["latency_p50_s"] > 0
    assert "answered 60 of 60" in told.err
    assert json.loads((tmp_path / "accounts.json").read_text()) == accounts
    with Image.open(tmp_path / "contact-sheet.png") as picture:
        assert picture.width > 1000


def test_the_page_of_the_demo_is_served_until_ctrl_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    former = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with EmbeddedBroker() as broker:
        settings = demo_settings(broker.bootstrap, tmp_path)
        with _page(settings) as wait, _page(settings) as wait_too:  # the second finds the usual port taken
            addresses = re.findall(r"the page is at (http://127\.0\.0\.1:\d+/)", capsys.readouterr().err)
            assert len(set(addresses)) == 2
            for address in addresses:
                with urllib.request.urlopen(f"{address}api/state", timeout=20) as answer:
                    assert broker.bootstrap in json.load(answer)["where"]
            for waiting, number in ((wait, signal.SIGINT), (wait_too, signal.SIGTERM)):
                Timer(0.3, os.kill, (os.getpid(), number)).start()
                waiting()
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), former, strict=True):
        signal.signal(number, handler)
    assert "Ctrl-C ends page and broker" in capsys.readouterr().err


def test_too_few_alerts_are_refused(tmp_path: Path) -> None:
    assert run_command(["demo", "--alerts", "3", "--out", str(tmp_path)]) == USAGE


def test_every_broken_message_is_rejected_for_a_reason_of_its_own(tmp_path: Path) -> None:
    for name, text in writer_schema_files().items():
        (tmp_path / name).write_text(text)
    reader = PacketReader(writer_schemas(SchemaSettings(folder=tmp_path)))
    preprocessor = Preprocessor(load_bundle("core").manifest.input)
    lsst, ztf = sorted(simulated_alerts("both", 2, seed=1), key=lambda alert: alert.survey)
    reasons = []
    for spoilt in poison(ztf, lsst):
        (record,) = reader.read(spoilt.packet)
        error = record if isinstance(record, PacketError) else preprocessor.prepare([record]).rejects[0]
        reasons.append(error.reason)
    assert len(set(reasons)) == len(reasons) == 7


@pytest.mark.parametrize(
    ("changes", "sound"),
    [
        ({}, True),
        ({"lost": 1}, False),
        ({"duplicated": 1}, False),
        ({"consumed": 9}, False),
        ({"scored": 7}, False),
    ],
)
def test_the_demo_fails_unless_the_accounts_balance(changes: dict[str, int], sound: bool) -> None:
    whole = {
        "published": 10, "consumed": 10, "scored": 8, "degraded": 1, "rejected": 1, "annotated": 9, "lost": 0,
        "duplicated": 0, "alerts_per_s": 1.0, "latency_p50_s": 1.0, "latency_p99_s": 1.0,
    }  # fmt: skip
    totals = Totals(**(whole | changes))  # type: ignore[arg-type]
    assert balanced(Result(totals, {}, {}, {}, Summary.__new__(Summary))) is sound


def test_the_area_under_the_curve() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    real = rng.random(500) < 0.4
    score = np.round(rng.normal(real, 1.0), 1)  # with ties
    assert area(score, real) == pytest.approx(roc_auc_score(real, score), abs=1e-12)
    assert np.isnan(area(score[:3], np.ones(3, bool)))
