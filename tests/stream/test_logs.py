from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from confluent_kafka import Consumer
from pydantic import SecretStr

from space2vec.schemas.settings import SourceSettings
from space2vec.stream.kafka_config import consumer_properties
from space2vec.stream.logs import REPEATS, RateLimit, configure_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("space2vec").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def test_a_pipe_gets_one_json_object_per_line() -> None:
    out = io.StringIO()
    configure_logs(out=out)
    log = structlog.get_logger("space2vec.test")
    log.info("committed", topic="ztf", offset=3, password=SecretStr("hush"))
    logging.getLogger("ray").warning("an actor died")
    logging.getLogger("ray").info("chatter")
    log.debug("every alert")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert list(first)[:3] == ["ts", "level", "event"]
    assert first["ts"].endswith("Z")
    assert (first["event"], first["topic"], first["offset"]) == ("committed", "ztf", 3)
    assert (second["level"], second["event"]) == ("warning", "an actor died")
    assert "hush" not in out.getvalue()


def test_a_traceback_stays_in_its_line() -> None:
    out = io.StringIO()
    configure_logs(out=out)
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger("space2vec.test").exception("failed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: odd" in json.loads(line)["exception"]


def test_a_terminal_gets_short_lines() -> None:
    out = Terminal()
    configure_logs(logging.WARNING, out=out)
    log = structlog.get_logger("space2vec.test")
    log.info("quiet")
    log.warning("lagging", lag=3)
    assert "quiet" not in out.getvalue()
    assert "lagging" in out.getvalue()
    assert not out.getvalue().startswith("{")


def test_repeated_errors_are_held_back_and_counted() -> None:
    now = 0.0
    limit = RateLimit(repeats=2, window_s=10.0, clock=lambda: now)

    def passes(method: str, event: str) -> dict[str, object] | None:
        try:
            return dict(limit(None, method, {"event": event}))
        except structlog.DropEvent:
            return None

    assert [passes("error", "down") is not None for _ in range(5)] == [True, True, False, False, False]
    assert passes("error", "other") is not None
    assert all(passes("info", "down") is not None for _ in range(5))
    now = 11.0
    assert passes("error", "down") == {"event": "down", "held_back": 3}
    assert passes("error", "down") == {"event": "down"}


def test_a_broker_that_is_not_there_does_not_flood_the_log() -> None:
    out = io.StringIO()
    configure_logs(logging.INFO, out=out)
    consumer = Consumer(consumer_properties(SourceSettings(brokers="127.0.0.1:1", topics=("alerts",))))
    consumer.subscribe(["alerts"])
    for _ in range(10):  # librdkafka tries 20 times in this time
        consumer.poll(0.1)
    consumer.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    refused = [line for line in lines if "Connection refused" in line["event"]]
    assert 1 <= len(refused) <= REPEATS
