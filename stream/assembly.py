"""Putting a stream worker's pipeline together from settings."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from confluent_kafka import Producer

from space2vec.schemas.annotate import Annotator
from space2vec.schemas.profiles import Profiles
from space2vec.schemas.reader import PacketReader
from space2vec.schemas.settings import Settings
from space2vec.schemas.writers import writer_schemas
from space2vec.stream.answers import Answerer
from space2vec.stream.batch import Opener
from space2vec.stream.dry_run import DrySink
from space2vec.stream.kafka_config import admin_properties, producer_properties, sink_cluster
from space2vec.stream.kafka_sink import AtLeastOnceSink, ExactlyOnceSink, GroupMember, NoTransactions
from space2vec.stream.kafka_source import KafkaSource
from space2vec.stream.ledger import Ledger
from space2vec.stream.models import Model
from space2vec.stream.output_topics import OutputTopics
from space2vec.stream.pipeline import Pipeline
from space2vec.stream.protocols import Sink
from space2vec.stream.seated_source import SeatedSource

log = structlog.get_logger()


def kafka_pipeline(settings: Settings, models: Sequence[Model], name: str) -> Pipeline:
    """Assemble a pipeline from Kafka to Kafka.

    Parameters
    ----------
    settings : Settings
        Everything.
    models : sequence of Model
        What scores the alerts.
    name : str
        Of this worker, unique in the group: its transactional id.

    Raises
    ------
    KafkaError
        If the cluster cannot be reached, or cannot give the delivery asked for.
    """
    source = (
        KafkaSource(settings.source) if settings.one_cluster else SeatedSource(settings.source, settings.sink)
    )
    opener, answerer = opener_of(settings)
    return Pipeline(
        source,
        opener,
        models,
        answerer,
        sink_of(settings, source, name),
        Ledger(settings.sink.ledger, name),
        settings.stream,
    )


def opener_of(settings: Settings) -> tuple[Opener, Answerer]:
    """What opens packets, and what answers them."""
    reader = PacketReader(
        writer_schemas(settings.schemas),
        Profiles.load(settings.schemas.profiles),
        survey=settings.schemas.survey,
    )
    return (
        Opener(reader, reject_unavailable=settings.schemas.unavailable == "reject"),
        Answerer(Annotator(), settings.sink, settings.schemas.survey),
    )


def sink_of(settings: Settings, group: GroupMember, name: str) -> Sink:
    """The sink that keeps the promise asked for, or the best one that the cluster can keep.

    Raises
    ------
    KafkaError
        If exactly once is asked for and cannot be had, or the cluster cannot be reached.
    """
    if settings.stream.dry_run:
        return DrySink()
    delivery = settings.stream.delivery
    topics = OutputTopics(admin_properties(sink_cluster(settings.sink, settings.source)), settings.sink)
    if delivery != "at-least-once":
        try:
            producer = Producer(producer_properties(settings.sink, settings.source, name))
            sink = ExactlyOnceSink(producer, topics, group)
        except (
            NoTransactions
        ) as error:  # not one that is only away: that would change the promise with the weather
            if delivery == "exactly-once":
                raise
            log.warning("no transactions here; delivering at least once", detail=str(error))
        else:
            log.info("delivery", promise="exactly once", transactional_id=name)
            return sink
    log.info("delivery", promise="at least once", dedup_key="alert_id, sha256")
    producer = Producer(producer_properties(settings.sink, settings.source, None))
    return AtLeastOnceSink(producer, topics, group)
