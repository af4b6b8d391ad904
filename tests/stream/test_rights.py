"""A source that grants one user the reading of one topic, and group ids with a prefix: as Rubin's does."""

from __future__ import annotations

import threading

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import Settings
from space2vec.stream.app import run_application
from space2vec.stream.audit import audit
from space2vec.stream.broker_common import free_ports
from trial import Outputs, assert_all_answered

PASSWORD = "alert-reader-secret"
PROPERTIES = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",  # whoever comes by the unguarded listener
    "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,DOOR:SASL_PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.door.plain.sasl.jaas.config": (
        f'org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="{PASSWORD}";'
    ),
}


@pytest.fixture
def survey(apache_cluster, topics_at):
    """A survey's broker: its own (unguarded) topics, and the door for a user with few rights."""
    (port,) = free_ports(1)
    cluster = apache_cluster(brokers=1, properties=PROPERTIES, listener=f"DOOR://127.0.0.1:{port}")
    return topics_at(cluster.bootstrap), f"127.0.0.1:{port}"


def allow(bootstrap: str, kind: ResourceType, name: str, pattern: ResourcePatternType, *operations) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    bindings = [
        AclBinding(kind, name, pattern, "User:reader", "*", operation, AclPermissionType.ALLOW)
        for operation in operations
    ]
    for future in admin.create_acls(bindings).values():
        future.result(30)


@pytest.mark.timeout(280)
def test_reading_alone_is_enough_for_exactly_once(
    survey, kafka, broker, ray_cluster, settings_for, make_alerts
) -> None:
    theirs, door = survey
    sent = make_alerts(ztf=60, lsst=60, seed=21, poison=2)
    topic = theirs.create_topic(partitions=3, max_message_bytes=4 << 20)
    theirs.produce(topic, [s.packet for s in sent])
    read = (AclOperation.READ, AclOperation.DESCRIBE)
    allow(theirs.bootstrap, ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, *read)
    allow(theirs.bootstrap, ResourceType.GROUP, "reader-", ResourcePatternType.PREFIXED, AclOperation.READ)
    settings = settings_for(
        topic,
        source={
            "brokers": door,
            "group": "reader-space2vec",
            "username": "reader",
            "password": PASSWORD,
            "options": {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"},
        },
        sink={"brokers": kafka.bootstrap},
        ray={"workers": 2},
    )
    run_application(settings, threading.Event())
    assert_all_answered(Outputs(kafka, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))
    assert _groups(theirs.bootstrap) == set()  # nothing was ever joined or committed there


def _groups(bootstrap: str) -> set[str]:
    listed = AdminClient({"bootstrap.servers": bootstrap}).list_consumer_groups().result(30)
    return {group.group_id for group in listed.valid}


@pytest.mark.timeout(120)
def test_a_wrong_password_is_told_without_it(survey, kafka, settings_for, caplog) -> None:
    _, door = survey
    settings: Settings = settings_for(
        "any",
        source={
            "brokers": door,
            "username": "reader",
            "password": "wrong-guess",
            "options": {
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "socket.connection.setup.timeout.ms": "2000",
            },
        },
    )
    with pytest.raises(KafkaError) as raised:
        run_application(settings, threading.Event())
    assert door in str(raised.value)
    assert "wrong-guess" not in str(raised.value) + caplog.text
