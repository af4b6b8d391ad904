"""An offset that cannot be told now is never taken for one that is not there yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError as Code
from confluent_kafka import KafkaException

from space2vec.schemas.errors import KafkaError
from space2vec.stream.group_offsets import committed_offsets


def told(offset: int, code: int | None = None) -> SimpleNamespace:
    return SimpleNamespace(
        topic="alerts", partition=3, offset=offset, error=None if code is None else Code(code)
    )


def group_that_says(*answer: SimpleNamespace) -> SimpleNamespace:
    return SimpleNamespace(committed=lambda partitions, timeout: list(answer))


def test_offsets_and_none_yet_are_given_as_they_are() -> None:
    answer = [told(17), told(-1001)]
    assert committed_offsets(group_that_says(*answer), [], 1.0) == answer


def test_an_open_transaction_is_not_a_fresh_partition() -> None:
    group = group_that_says(told(17), told(-1001, Code.UNSTABLE_OFFSET_COMMIT))
    with pytest.raises(KafkaError, match="alerts-3"):
        committed_offsets(group, [], 1.0)


def test_what_can_be_told_a_moment_later_is_asked_for_again() -> None:
    answers = [
        [told(-1001, Code.UNSTABLE_OFFSET_COMMIT)],
        KafkaException(Code(Code.NOT_COORDINATOR)),
        [told(17)],
    ]

    def committed(partitions: object, timeout: float) -> list[SimpleNamespace]:
        answer = answers.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return answer

    (found,) = committed_offsets(SimpleNamespace(committed=committed), [], 5.0)
    assert found.offset == 17


def test_a_group_that_cannot_be_asked_is_a_kafka_error() -> None:
    def away(partitions: object, timeout: float) -> None:
        raise KafkaException(Code(Code._TIMED_OUT))

    with pytest.raises(KafkaError, match="offsets"):
        committed_offsets(SimpleNamespace(committed=away), [], 1.0)


def test_a_right_that_is_missing_is_told_at_once() -> None:
    asked = []

    def refused(partitions: object, timeout: float) -> None:
        asked.append(timeout)
        raise KafkaException(Code(Code.GROUP_AUTHORIZATION_FAILED))

    with pytest.raises(KafkaError, match="offsets"):
        committed_offsets(SimpleNamespace(committed=refused), [], 30.0)
    assert len(asked) == 1
