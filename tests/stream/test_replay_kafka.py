"""Replaying into Kafka: killed and begun again, each packet answered once; what is done is known there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from space2vec.schemas.classification import decode_classification
from space2vec.schemas.errors import KafkaError
from space2vec.schemas.exit_codes import FAILED, OK, USAGE
from space2vec.schemas.settings import ClusterSettings, Settings
from space2vec.stream.app import run_application
from space2vec.stream.cli import run_command
from space2vec.stream.replay_audit import audit_replay
from space2vec.stream.replay_kafka import LEDGER, AnswersFirst
from space2vec.stream.replay_source import PROVENANCE
from space2vec.stream.topic_reader import TopicReader
from trial import tar_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def night(tmp_path: Path, make_alerts) -> tuple[Path, list[Any]]:
    sent = make_alerts(ztf=60, poison=4)
    packets = {f"{number}.avro": s.packet for number, s in enumerate(5 * sent)}
    return tar_of(tmp_path / "night.tar.gz", packets), sent


@pytest.fixture
def command(kafka, broker, night, tmp_path: Path) -> tuple[str, list[str]]:
    """Topic, and what replays the night into it."""
    topic = kafka.create_topic(3)
    config = tmp_path / "settings.toml"
    # The embedded broker shows aborted transactions to everybody.
    promise = "at-least-once" if broker.kind == "embedded" else "exactly-once"
    config.write_text(
        f'[stream]\nbatch_alerts = 32\ncommit_interval_s = 0.05\ndelivery = "{promise}"\n[sink]\npartitions = 2\n'
    )
    return topic, [
        "replay", str(night[0]), "--to", f"kafka:{topic}", "-b", kafka.bootstrap, "--config", str(config), "--json",
    ]  # fmt: skip


def answers(kafka, topic: str) -> tuple[list[Any], list[Any]]:
    return kafka.read(topic), kafka.read(f"{topic}-rejected")


def written(kafka, topic: str) -> int:
    """How far the topic's partitions reach, together."""
    reader = TopicReader(ClusterSettings(brokers=kafka.bootstrap))
    try:
        return sum(end for _, end in reader.spans(topic).values())
    except KafkaError:  # a topic that has just been made
        return 0
    finally:
        reader.close()


def members(messages: list[Any]) -> Counter[int]:
    return Counter(int(dict(message.headers())["source_offset"]) for message in messages)


def test_each_packet_is_answered_with_where_it_came_from(kafka, command, night, capsys: Capture) -> None:
    topic, arguments = command
    path, sent = night
    assert run_command(arguments) == OK
    summary = json.loads(capsys.readouterr().out)
    assert (summary["alerts"], summary["rejected"], summary["done"]) == (320, 20, 1)
    classified, rejected = answers(kafka, topic)
    good = {n for n in range(320) if sent[n % 64].alert_id is not None}
    assert members(classified) == Counter(good)
    assert members(rejected) == Counter(set(range(320)) - good)
    for message in classified:
        record, headers = decode_classification(message.value()), dict(message.headers())
        told = json.loads(headers[PROVENANCE])
        number = int(headers["source_offset"])
        assert told["archive"] == path.name
        assert told["member"] == f"{number}.avro"
        assert len(told["digest"]) == 64
        assert told["run"] == summary["each"][0]["run"]
        assert record["alert_id"] == sent[number % 64].alert_id
        assert (record["topic"], record["offset"]) == (headers["source_topic"].decode(), number)
    for message in rejected:
        assert message.value() == sent[int(dict(message.headers())["source_offset"]) % 64].packet

    assert run_command(arguments) == OK
    again = json.loads(capsys.readouterr().out)
    assert (again["skipped"], again["fresh"], again["alerts"]) == (1, 0, 320)
    assert run_command(["audit", "--replay", f"kafka:{topic}", "-b", kafka.bootstrap]) == OK
    assert "320 messages, 0 missing, 0 doubled, ledger says 320" in capsys.readouterr().out

    assert run_command([*arguments, "--again"]) == OK
    assert json.loads(capsys.readouterr().out)["fresh"] == 320
    settings = Settings.model_validate({"source": {"brokers": kafka.bootstrap}})
    first, second = audit_replay(settings, f"kafka:{topic}")
    assert first.balanced
    assert second.balanced
    assert first.partition != second.partition


@pytest.mark.timeout(280)
def test_killed_and_begun_again(kafka, broker, command, capsys: Capture) -> None:
    topic, arguments = command
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "space2vec.stream", *arguments]
    noise, seen = random.Random(11), 0
    for _ in range(3):
        with subprocess.Popen(
            [*program, "--rate", "20"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:  # so it would take 16 s
            while (now := written(kafka, topic)) <= seen:  # until it answers
                time.sleep(0.05)
            seen = now
            time.sleep(noise.random() * 0.5)
            assert process.poll() is None, "it was through before it could be killed"
            process.kill()
    assert run_command(arguments) == OK
    summary = json.loads(capsys.readouterr().out)
    assert 0 < summary["fresh"] < 320
    assert (summary["alerts"], summary["scored"] + summary["degraded"], summary["rejected"]) == (320, 300, 20)
    classified, rejected = answers(kafka, topic)
    answered = members([*classified, *rejected])
    assert set(answered) == set(range(320))
    (account,) = audit_replay(
        Settings.model_validate({"source": {"brokers": kafka.bootstrap}}), f"kafka:{topic}"
    )
    assert account.missing == 0
    if broker.kind != "embedded":  # where there are transactions, not once too often either
        assert set(answered.values()) == {1}
        assert account.balanced


def test_an_audit_finds_what_is_missing(kafka, command, capsys: Capture) -> None:
    topic, arguments = command
    assert run_command(arguments) == OK
    capsys.readouterr()
    line = json.loads(next(m for m in kafka.read(LEDGER) if json.loads(m.value())["to"] == topic).value())
    kafka.produce(LEDGER, [json.dumps(line | {"first": 320, "next": 330, "messages": 10}).encode()])
    assert run_command(["audit", "--replay", f"kafka:{topic}", "-b", kafka.bootstrap]) == FAILED
    assert "offsets 320-329 missing: 0 of 1 answered" in capsys.readouterr().out
    assert run_command(["audit", "--replay", f"kafka:not-{topic}", "-b", kafka.bootstrap]) == USAGE


def test_without_transactions_the_ledger_waits_for_the_answers() -> None:
    seen: list[Any] = []

    class Sink:
        def write(self, records: Any) -> None:
            seen.extend(record.topic for record in records)

        def commit(self, offsets: Any) -> None:
            seen.append("acknowledged")

        def abort(self) -> None:
            seen.append("aborted")

    class Record:
        def __init__(self, topic: str) -> None:
            self.topic = topic

    sink = AnswersFirst(Sink(), "ledger")  # type: ignore[arg-type]
    sink.write([Record("out"), Record("ledger")])  # type: ignore[list-item]
    sink.write([Record("out")])  # type: ignore[list-item]
    sink.commit({})
    assert seen == ["out", "out", "acknowledged", "ledger", "acknowledged"]
    sink.write([Record("ledger")])  # type: ignore[list-item]
    sink.abort()
    sink.commit({})
    assert "ledger" not in seen[5:]


@pytest.mark.timeout(280)
def test_real_packets_score_as_live_and_as_by_score(
    shared: Path, kafka, ray_cluster, settings_for, tmp_path: Path, capsys: Capture
) -> None:
    """The same real packets by the live path, by a replay and by ``score``: the same scores, or none thrice."""
    packets = sorted((shared / "packets/ztf").iterdir())[::5] + sorted((shared / "packets/corrupt").iterdir())
    topic, tar = kafka.create_topic(2, max_message_bytes=8 << 20), tmp_path / "real.tar"
    places = kafka.produce(topic, [path.read_bytes() for path in packets])
    run_application(settings_for(topic), threading.Event())
    settings = settings_for(topic)
    classified = [
        decode_classification(m.value())
        for m in kafka.read(settings.sink.classifications.format(survey="ztf"))
    ]
    number = {place: n for n, place in enumerate(places)}
    live = {number[r["partition"], r["offset"]]: (r["alert_id"], r["logit"], r["flags"]) for r in classified}

    with tarfile.open(tar, "w") as archive:
        for n, path in enumerate(packets):
            archive.add(path, f"{n:04d}.avro")
    assert run_command(["replay", str(tar), "--to", f"parquet:{tmp_path / 'out'}", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["each"][0]["messages"] == len(packets)
    tables = sorted((tmp_path / "out/alerts").rglob("*.parquet"))
    rows = [row for path in tables for row in pq.ParquetFile(path).read().to_pylist()]
    again = {row["member"]: (row["alert_id"], row["logit"], row["flags"].split()) for row in rows}
    assert set(again) == set(live)
    assert len(again) >= len(packets) / 2
    for n, (alert_id, logit, flags) in live.items():
        assert again[n] == (alert_id, pytest.approx(logit, rel=1e-5, abs=1e-6), flags)

    assert run_command(["score", *map(str, packets), "--json"]) in (OK, FAILED)
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = Counter((v["alert_id"], round(v["score"], 5)) for v in verdicts if v["score"] is not None)
    assert told == Counter((row["alert_id"], round(row["score"], 5)) for row in rows)
