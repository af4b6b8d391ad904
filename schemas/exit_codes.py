"""What the exit status of ``space2vec`` says."""

from __future__ import annotations

from typing import Final

from space2vec.schemas.errors import (
    ConfigError,
    KafkaError,
    ModelError,
    SchemaUnavailable,
)

OK: Final = 0
"""Finished, or drained."""
FAILED: Final = 1
"""Something failed that was not foreseen, or a check did not hold."""
USAGE: Final = 2
"""A flag, a setting or a file named by the user is wrong."""
KAFKA: Final = 3
"""Kafka is unreachable, refuses us, or does not keep what it promised."""
MODEL: Final = 4
"""A model bundle or a writer schema is invalid or cannot be had."""
UNFINISHED: Final = 5
"""The drain deadline passed with work left uncommitted."""
INTERRUPTED: Final = 130
"""Stopped by a second Ctrl-C."""


def exit_code(error: BaseException) -> int:
    """Give the exit status for an error that ends the command."""
    match error:
        case ConfigError():
            return USAGE
        case KafkaError():
            return KAFKA
        case ModelError() | SchemaUnavailable():
            return MODEL
        case KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return FAILED
