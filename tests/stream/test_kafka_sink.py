"""Which promise a sink makes, by what the cluster says of transactions."""

from __future__ import annotations

import pytest
import structlog
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import Settings
from space2vec.stream import assembly, kafka_sink
from space2vec.stream.assembly import sink_of
from space2vec.stream.kafka_sink import AtLeastOnceSink, ExactlyOnceSink, NoTransactions, fence


class Cluster:
    """Stands for the producer of a cluster that answers ``init_transactions`` with this code."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def __call__(self, properties: dict[str, object]) -> Cluster:
        return self

    def init_transactions(self, timeout: float) -> None:
        if self.code is not None:
            raise KafkaException(Code(self.code))


def sink(monkeypatch: pytest.MonkeyPatch, code: int | None, delivery: str) -> object:
    monkeypatch.setattr(assembly, "Producer", Cluster(code))
    settings = Settings(stream={"delivery": delivery})
    return sink_of(settings, None, "worker.0")  # type: ignore[arg-type]


def test_exactly_once_wherever_it_is_to_be_had(monkeypatch) -> None:
    assert isinstance(sink(monkeypatch, None, "auto"), ExactlyOnceSink)
    assert isinstance(sink(monkeypatch, None, "exactly-once"), ExactlyOnceSink)


@pytest.mark.parametrize("code", kafka_sink._NO_TRANSACTIONS)
def test_at_least_once_only_where_the_cluster_says_that_it_has_no_transactions(monkeypatch, code) -> None:
    assert isinstance(sink(monkeypatch, code, "auto"), AtLeastOnceSink)
    with pytest.raises(NoTransactions):
        sink(monkeypatch, code, "exactly-once")


@pytest.mark.parametrize("code", [Code._TIMED_OUT, Code._TRANSPORT, Code._FENCED, Code.UNKNOWN])
def test_a_cluster_that_is_only_away_does_not_change_the_promise(monkeypatch, code) -> None:
    with pytest.raises(KafkaError):
        sink(monkeypatch, code, "auto")


@pytest.mark.parametrize(
    ("code", "delivery", "told"),
    [
        (None, "auto", False),
        (kafka_sink._NO_TRANSACTIONS[0], "auto", False),
        (Code._TIMED_OUT, "exactly-once", True),
        (Code._TIMED_OUT, "at-least-once", False),
    ],
)
def test_a_transaction_that_cannot_be_ended_is_logged_and_ends_nothing_else(
    monkeypatch, code, delivery, told
) -> None:
    monkeypatch.setattr(kafka_sink, "Producer", Cluster(code))
    with structlog.testing.capture_logs() as logged:
        fence(Settings(stream={"delivery": delivery}), "worker.0")  # type: ignore[arg-type]
    assert bool(logged) is told
