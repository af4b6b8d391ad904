"""librdkafka properties from the environment, by the rule of Confluent's images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PREFIX: Final = "KAFKA_"


def property_name(variable: str) -> str:
    """Give the property that a variable names: ``KAFKA_SASL_USERNAME`` is ``sasl.username``.

    One underscore is a dot, two are a dash, three an underscore
    (https://docs.confluent.io/platform/current/installation/docker/config-reference.html).
    """
    name = variable.removeprefix(PREFIX).lower()
    return name.replace("___", "\0").replace("__", "-").replace("_", ".").replace("\0", "_")


def kafka_environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Give the source settings that ``KAFKA_*`` variables stand for.

    Variables that name no property of librdkafka are left alone: Kafka's own scripts (``KAFKA_HEAP_OPTS``) and
    Kubernetes (``KAFKA_SERVICE_HOST``) use the same prefix.

    Returns
    -------
    dict
        ``{"source": {"brokers": ..., "options": {...}}}``, or empty.
    """
    options = {
        property_name(variable): value
        for variable, value in sorted(environ.items())
        if variable.startswith(PREFIX) and _is_property(property_name(variable), value)
    }
    brokers = options.pop("bootstrap.servers", None)
    source: dict[str, Any] = {"options": options} if options else {}
    if brokers:
        source["brokers"] = brokers
    return {"source": source} if source else {}


def _is_property(name: str, value: str) -> bool:
    """Ask librdkafka itself whether it has such a property."""
    from confluent_kafka import KafkaException, Producer

    try:
        Producer({name: value, "bootstrap.servers": "", "log_level": 0})
    except KafkaException as error:
        return "No such configuration property" not in str(error)
    return True
