"""The settings for real brokers: they load, hold no secret, promise exactly once, and each has its section in docs/brokers.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer

from space2vec.stream.config import load_settings
from space2vec.stream.kafka_config import consumer_properties
from space2vec.stream.nightly import NIGHT

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "deploy" / "brokers").glob("*.toml"))
PAGE = (ROOT / "docs" / "brokers.md").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_settings_are_ours_and_librdkafkas(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = path.read_text()
    assert "password" not in text.lower().replace("password_file=", "")
    secret = tmp_path / "secret"
    secret.write_text("hush\n")
    monkeypatch.setenv("SPACE2VEC_SOURCE__USERNAME", "babamul-me")
    monkeypatch.setenv("SPACE2VEC_SOURCE__PASSWORD_FILE", str(secret))
    settings = load_settings(path)
    assert not settings.one_cluster, "outputs cannot go where we may only read"
    assert settings.stream.delivery == "exactly-once"
    assert settings.source.topics
    properties = consumer_properties(settings.source)
    assert properties["sasl.password"] == "hush"
    Consumer(properties | {"log_level": 0}).close()  # librdkafka knows every property, and connects to nobody
    assert settings.source.brokers in PAGE or path.stem == "ztf"
    assert f"deploy/brokers/{path.name}" in PAGE


def test_security_is_what_each_is_known_to_want(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPACE2VEC_SOURCE__USERNAME", "me")
    monkeypatch.setenv("SPACE2VEC_SOURCE__PASSWORD", "hush")
    told = {}
    for path in FILES:
        properties = consumer_properties(load_settings(path).source)
        told[path.stem] = (properties["security.protocol"], properties["sasl.mechanism"])
    assert told["rubin"] == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
    assert told["alerce"] == ("SASL_PLAINTEXT", "SCRAM-SHA-256")
    assert told["babamul"] == ("SASL_SSL", "SCRAM-SHA-512")


def test_nightly_topics_are_joined_by_date() -> None:
    (topic,) = load_settings(ROOT / "deploy" / "brokers" / "ztf.toml").source.topics
    assert NIGHT in topic
