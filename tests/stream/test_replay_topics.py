"""What a replay reads of a topic: what was written between two times, rescored or compared."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from replaying import told_by_replay

from space2vec.schemas.classification import decode_classification
from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import OK, USAGE
from space2vec.schemas.settings import Settings
from space2vec.stream.cli import run_command
from space2vec.stream.replay_source import PROVENANCE
from space2vec.stream.replay_topics import find_sources, open_archive

Capture = pytest.CaptureFixture[str]


def between(since: float, until: float) -> list[str]:
    moments = [datetime.fromtimestamp(moment, UTC).isoformat() for moment in (since, until)]
    return ["--since", moments[0], "--until", moments[1]]


@pytest.fixture
def topic(kafka, make_alerts) -> tuple[str, list[Any], float, float]:
    """A topic, what it was given between two times, and the times; there is more before and after."""
    name, waves = kafka.create_topic(2), [make_alerts(ztf=40, seed=seed, poison=2) for seed in (1, 2, 3)]
    moments = []
    for wave in waves:
        time.sleep(0.05)
        moments.append(time.time())
        time.sleep(0.05)
        kafka.produce(name, [s.packet for s in wave])
    return name, waves[1], moments[1], moments[2]


def test_a_topic_by_time_is_rescored_without_its_packets(
    kafka, topic, tmp_path: Path, capsys: Capture
) -> None:
    name, sent, since, until = topic
    out = kafka.create_topic(2)
    config = tmp_path / "replay.toml"
    config.write_text('[stream]\ndelivery = "at-least-once"\n[source]\ngroup = "of-its-own"\n')
    arguments = [
        f"kafka:{name}", *between(since, until), "--to", f"kafka:{out}", "-b", kafka.bootstrap, "--config", str(config),
    ]  # fmt: skip
    told = told_by_replay(capsys, *arguments)
    assert (told["alerts"], told["scored"] + told["degraded"], told["rejected"]) == (42, 40, 2)
    ids = Counter(decode_classification(m.value())["alert_id"] for m in kafka.read(out))
    assert ids == Counter(s.alert_id for s in sent if s.alert_id is not None)
    rejected = kafka.read(f"{out}-rejected")
    assert Counter(m.value() or b"" for m in rejected) == Counter(
        s.packet for s in sent if s.alert_id is None
    )
    for message in rejected:
        told_of = json.loads(dict(message.headers())[PROVENANCE])
        assert told_of["archive"] in (f"{name}-0", f"{name}-1")
        assert told_of["member"].startswith(f"{told_of['archive']}@")
    again = told_by_replay(capsys, *arguments)
    assert (again["skipped"], again["fresh"]) == (2, 0)
    assert run_command(["audit", "--replay", f"kafka:{out}", "-b", kafka.bootstrap]) == OK


def test_bundles_are_compared_over_a_topic(kafka, topic, capsys: Capture) -> None:
    name, _, since, until = topic
    span = between(since, until)
    compare = ["model", "compare", "core", "core", f"kafka:{name}", *span, "-b", kafka.bootstrap, "--json"]
    assert run_command(compare) == OK
    assert json.loads(capsys.readouterr().out)["alerts"] == 40


def test_a_topic_that_is_not_what_it_was_is_not_gone_on_with(
    kafka, topic, tmp_path: Path, capsys: Capture
) -> None:
    name, _, since, until = topic
    arguments = [
        "replay", f"kafka:{name}", *between(since, until), "--to", f"parquet:{tmp_path / 'out'}",
        "-b", kafka.bootstrap, "--local",
    ]  # fmt: skip
    assert run_command(arguments) == OK
    for path in (tmp_path / "out/manifests").glob("*.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"done": False, "size": manifest["size"] + 5}))
    assert run_command(arguments) == USAGE
    assert "offsets; there were" in capsys.readouterr().err


def test_a_topic_is_gone_on_with_by_the_number_of_the_packet(kafka, topic) -> None:
    name, sent, since, until = topic
    settings = Settings.model_validate({"source": {"brokers": kafka.bootstrap}})
    archives = find_sources([f"kafka:{name}"], settings, int(since * 1000), int(until * 1000))
    packets = []
    for archive in archives:
        reader = open_archive(archive, settings)
        whole = list(reader.members())
        assert [member.number for member in whole] == list(range(archive.size))
        assert (reader.bytes_read, reader.faults) == (archive.size, [])
        assert list(open_archive(archive, settings).members(5)) == whole[5:]
        packets += [member.packet for member in whole]
    assert Counter(packets) == Counter(s.packet for s in sent)


def test_a_topic_needs_its_times(kafka, topic, tmp_path: Path) -> None:
    name, _, since, until = topic
    settings = Settings.model_validate({"source": {"brokers": kafka.bootstrap}})
    begin, end = int(since * 1000), int(until * 1000)
    with pytest.raises(ConfigError, match="needs --since and --until"):
        find_sources([f"kafka:{name}"], settings, begin, None)
    with pytest.raises(ConfigError, match="yet to come"):
        find_sources([f"kafka:{name}"], settings, begin, end + 10**9)
    with pytest.raises(ConfigError, match="nothing was written"):
        find_sources([f"kafka:{name}"], settings, 1000, 2000)
    with pytest.raises(ConfigError, match="no such topic"):
        find_sources(["kafka:nowhere"], settings, begin, end)
    with pytest.raises(ConfigError, match=r"for kafka:TOPIC"):
        find_sources([str(tmp_path)], settings, begin, end)
