"""An archive as a source stream: every packet as it is, damaged ones too, with the gaps that were."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from space2vec.schemas.exit_codes import FAILED, OK, UNFINISHED, USAGE
from space2vec.schemas.times import DAY_S
from space2vec.stream.cli import run_command
from space2vec.training.packets import ztf_packet
from trial import tar_of

Capture = pytest.CaptureFixture[str]


def test_every_packet_goes_out_as_it_is(kafka, make_alerts, tmp_path: Path, capsys: Capture) -> None:
    packets = {f"night/{number}.avro": s.packet for number, s in enumerate(make_alerts(ztf=30, poison=3))}
    path, topic = tar_of(tmp_path / "n.tar.gz", packets), kafka.create_topic(3)
    assert run_command(["publish", str(path), "--to", topic, "-b", kafka.bootstrap, "--json"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert (told["published"], told["bytes"]) == (33, sum(map(len, packets.values())))
    messages = kafka.read(topic)
    assert {m.key().decode(): m.value() or b"" for m in messages} == {
        name.removeprefix("night/").removesuffix(".avro"): packet for name, packet in packets.items()
    }
    assert all(dict(m.headers())["archive"] == b"n.tar.gz" for m in messages)


def test_gaps_are_kept_by_the_factor(kafka, tmp_path: Path, capsys: Capture) -> None:
    seconds = [0.0, 40.0, 80.0]
    packets = {
        f"{i}.avro": ztf_packet(
            None, None, None, alert_id=i, object_id="Z", jd=2461300.7 + s / DAY_S, ra=1.0, dec=2.0
        )
        for i, s in enumerate(seconds)
    }
    path, topic = tar_of(tmp_path / "n.tar.gz", packets), kafka.create_topic(1)
    began = time.monotonic()
    assert (
        run_command(["publish", str(path), "--to", topic, "-b", kafka.bootstrap, "--speed", "40", "--json"])
        == OK
    )
    assert time.monotonic() - began >= 1.99  # 80 s, forty times as fast
    stamps = [message.timestamp()[1] / 1000 for message in kafka.read(topic)]
    assert stamps[1] - stamps[0] >= 0.9
    assert stamps[2] - stamps[1] >= 0.9
    assert json.loads(capsys.readouterr().out)["seconds"] >= 1.9


def test_stopped_it_says_that_there_was_more(kafka, make_alerts, tmp_path: Path) -> None:
    packets = {f"{number}.avro": s.packet for number, s in enumerate(make_alerts(ztf=30))}
    path, topic = tar_of(tmp_path / "n.tar.gz", packets), kafka.create_topic(1)
    program = [
        sys.executable,
        "-m",
        "space2vec.stream",
        "publish",
        str(path),
        "--to",
        topic,
        "-b",
        kafka.bootstrap,
    ]
    with subprocess.Popen([*program, "--rate", "1"], stderr=subprocess.PIPE, text=True) as process:
        kafka.read(topic, 1)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert "stopped before the end" in said
    assert process.returncode == UNFINISHED
    assert f"{len(kafka.read(topic))} packets" in said


def test_what_cannot_be_read_is_said(kafka, make_alerts, tmp_path: Path, capsys: Capture) -> None:
    path = tar_of(tmp_path / "n.tar.gz", {"0.avro": make_alerts(ztf=1)[0].packet})
    path.write_bytes(path.read_bytes()[:-2000])
    topic = kafka.create_topic(1)
    assert run_command(["publish", str(path), "--to", topic, "-b", kafka.bootstrap]) == FAILED
    assert "n.tar.gz: " in capsys.readouterr().err


def test_one_pace_at_a_time(tmp_path: Path, capsys: Capture) -> None:
    path = tar_of(tmp_path / "n.tar.gz", {"0.avro": b"x"})
    assert run_command(["publish", str(path), "--to", "t", "--rate", "1", "--speed", "1"]) == USAGE
    assert "take one" in capsys.readouterr().err
