"""Properties of librdkafka: the user's options win, unless they would lose alerts."""

from __future__ import annotations

from pathlib import Path

import pytest

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import SinkSettings, SourceSettings
from space2vec.stream.kafka_config import (
    admin_properties,
    cluster_properties,
    consumer_properties,
    producer_properties,
)


def test_options_that_would_lose_alerts_are_refused() -> None:
    for name in ("enable.auto.commit", "enable.auto.offset.store"):
        with pytest.raises(ConfigError, match=name):
            consumer_properties(SourceSettings(options={name: "true"}))


def test_any_other_option_wins() -> None:
    properties = consumer_properties(SourceSettings(options={"fetch.wait.max.ms": "7"}))
    assert properties["fetch.wait.max.ms"] == "7"


def test_the_new_group_protocol_has_no_client_side_assignor() -> None:
    properties = consumer_properties(SourceSettings(options={"group.protocol": "consumer"}))
    assert "partition.assignment.strategy" not in properties


def test_prefetch_is_bounded_by_the_setting() -> None:
    assert (
        consumer_properties(SourceSettings(prefetch_bytes=8 << 20))["queued.max.messages.kbytes"] == 8 << 10
    )


def test_credentials_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret\n")
    source = SourceSettings(username="me", password_file=tmp_path / "password")
    properties = cluster_properties(source)
    assert properties["sasl.password"] == "s3cret"
    assert properties["security.protocol"] == "SASL_SSL"  # never in clear unless told
    with pytest.raises(ConfigError, match="has no password"):
        cluster_properties(SourceSettings(username="me"))
    with pytest.raises(ConfigError, match="cannot read password_file"):
        cluster_properties(SourceSettings(username="me", password_file=tmp_path / "absent"))


def test_a_producer_on_the_sources_cluster_has_its_credentials_and_no_consumer_options() -> None:
    source = SourceSettings(brokers="a:1", options={"ssl.ca.location": "/ca", "fetch.wait.max.ms": "7"})
    properties = producer_properties(SinkSettings(), source, "tx")
    assert properties["bootstrap.servers"] == "a:1"
    assert properties["ssl.ca.location"] == "/ca"
    assert "fetch.wait.max.ms" not in properties
    assert properties["transactional.id"] == "tx"
    assert properties["message.timeout.ms"] < properties["transaction.timeout.ms"]
    assert "transactional.id" not in producer_properties(SinkSettings(), source, None)


def test_looking_at_topics_takes_the_connection_alone() -> None:
    source = SourceSettings(options={"sasl.mechanism": "PLAIN", "queued.max.messages.kbytes": "9"})
    assert admin_properties(source)["sasl.mechanism"] == "PLAIN"
    assert "queued.max.messages.kbytes" not in admin_properties(source)
