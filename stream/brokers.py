"""Brokers for development and tests, and the rule that chooses among them.

========== ============================================================= ==============================
kind       what it is                                                    needs
========== ============================================================= ==============================
external   the one at ``$SPACE2VEC_TEST_BROKERS``                        a broker that you run
docker     ``apache/kafka``, or ``$SPACE2VEC_KAFKA_IMAGE``               a running Docker engine
apache     Apache Kafka, KRaft, from Maven Central                       Java 17 and Maven
embedded   Tansu, in memory; speaks Kafka, but is not Apache Kafka       the ``demo`` extra
========== ============================================================= ==============================
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from space2vec.schemas.errors import ConfigError, KafkaError
from space2vec.stream.broker_apache import ApacheCluster
from space2vec.stream.broker_common import Broker, await_brokers
from space2vec.stream.broker_docker import APACHE_IMAGE, DockerBroker
from space2vec.stream.broker_embedded import EmbeddedBroker

__all__ = [
    "CHOICES",
    "ApacheCluster",
    "Broker",
    "DockerBroker",
    "EmbeddedBroker",
    "ExternalBroker",
    "find_broker",
    "start_broker",
]

CHOICES = ("docker", "apache", "embedded")
"""What `find_broker` tries unless told, the most telling first."""

KIND_VARIABLE = "SPACE2VEC_TEST_BROKER"
ADDRESS_VARIABLE = "SPACE2VEC_TEST_BROKERS"
IMAGE_VARIABLE = "SPACE2VEC_KAFKA_IMAGE"


class ExternalBroker(Broker):
    """A broker that somebody else runs.

    Parameters
    ----------
    bootstrap : str
        Bootstrap servers, ``host:port[,host:port...]``.
    """

    kind = "external"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def _launch(self) -> None:
        await_brokers(self.bootstrap, count=1, deadline_s=30, ended=lambda: None)

    def stop(self) -> None:
        """Leave it as it is."""


def start_broker(kind: str, environment: Mapping[str, str] = os.environ) -> Broker:
    """Start one broker of a kind.

    Parameters
    ----------
    kind : str
        ``external``, ``docker``, ``apache`` or ``embedded``.
    environment : mapping of str to str
        Where the variables of the table above are read.

    Returns
    -------
    Broker
        It answers clients; whoever called stops it.

    Raises
    ------
    ConfigError
        When there is no such kind, or no address of the external one.
    KafkaError
        When this kind cannot be had here.
    """
    broker: Broker
    match kind:
        case "external":
            address = environment.get(ADDRESS_VARIABLE, "")
            if not address:
                raise ConfigError(f"an external broker needs {ADDRESS_VARIABLE}=host:port")
            broker = ExternalBroker(address)
        case "docker":
            broker = DockerBroker(environment.get(IMAGE_VARIABLE) or APACHE_IMAGE)
        case "apache":
            broker = ApacheCluster()
        case "embedded":
            broker = EmbeddedBroker()
        case _:
            raise ConfigError(f"no broker of kind {kind!r}: external, docker, apache or embedded")
    broker.launch()
    return broker


def find_broker(environment: Mapping[str, str], say: Callable[[str], None]) -> Broker:
    """Start the most telling broker that can be had.

    The one that ``SPACE2VEC_TEST_BROKER`` names, and no other; else a Docker engine's, else Apache Kafka
    under Java, else the embedded one.

    Parameters
    ----------
    environment : mapping of str to str
        Where the variables are read.
    say : callable
        Is told, in one line each, why a better broker was passed over.

    Returns
    -------
    Broker
        It answers clients; whoever called stops it.

    Raises
    ------
    ConfigError
        When the variables contradict each other or name no broker.
    KafkaError
        When the named one, or every one, cannot be had.
    """
    named = environment.get(KIND_VARIABLE, "")
    if environment.get(ADDRESS_VARIABLE) and named != "external":
        raise ConfigError(f"{ADDRESS_VARIABLE} is of no use without {KIND_VARIABLE}=external")
    if named:
        return start_broker(named, environment)
    for kind in CHOICES:
        try:
            return start_broker(kind, environment)
        except KafkaError as error:
            say(f"{kind}: {error}")
    raise KafkaError(f"no broker can be had here: {', '.join(CHOICES)} all failed")
