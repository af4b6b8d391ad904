"""A broker behind TLS and SASL, with a user who has the rights that the Helm chart asks Strimzi for and no other."""

from __future__ import annotations

import datetime
import ipaddress
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from space2vec.schemas.errors import KafkaError
from space2vec.schemas.settings import Settings
from space2vec.stream.app import run_application
from space2vec.stream.audit import audit
from space2vec.stream.broker_common import free_ports
from space2vec.stream.config import load_settings
from trial import Outputs, assert_all_answered

BROKERS = Path(__file__).resolve().parents[2] / "deploy" / "brokers"
USER, PASSWORD = "night", "scram-secret"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, and the broker's certificate under it."""

    ca: Path
    broker: Path


def certificates(folder: Path, name: str) -> Authority:
    """Make an authority, and a certificate of it for 127.0.0.1; both PEM, the broker's with its key."""
    now = datetime.datetime.now(datetime.UTC)

    def certificate(
        common_name: str, issuer: x509.Name | None, signer: ec.EllipticCurvePrivateKey | None
    ) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if issuer is not None:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(signer or key, hashes.SHA256()), key

    root, root_key = certificate(f"{name} authority", None, None)
    leaf, leaf_key = certificate("broker", root.subject, root_key)
    pem = serialization.Encoding.PEM
    ca, broker = folder / f"{name}-ca.pem", folder / f"{name}-broker.pem"
    ca.write_bytes(root.public_bytes(pem))
    key_bytes = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    broker.write_bytes(key_bytes + leaf.public_bytes(pem) + root.public_bytes(pem))
    return Authority(ca, broker)


@dataclass(frozen=True)
class Guarded:
    """One broker with three listeners: unguarded for its owner, SASL over TLS, and SASL without TLS as Rubin has it."""

    bootstrap: str
    tls: str
    plain: str
    ca: Path


@pytest.fixture
def guarded(apache_cluster, tmp_path) -> Guarded:
    authority = certificates(tmp_path, "survey")
    tls, plain = free_ports(2)
    cluster = apache_cluster(
        brokers=1,
        properties={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # whoever comes by the unguarded listener
            "listener.security.protocol.map": (
                "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SASL_SSL,PLAIN:SASL_PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.tls.ssl.keystore.type": "PEM",
            "listener.name.tls.ssl.keystore.location": str(authority.broker),
            **{
                f"listener.name.{name}.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                )
                for name in ("tls", "plain")
            },
        },
        listener=f"TLS://127.0.0.1:{tls},PLAIN://127.0.0.1:{plain}",
    )
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    user = UserScramCredentialUpsertion(
        USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
    )
    for future in admin.alter_user_scram_credentials([user]).values():
        future.result(30)
    return Guarded(cluster.bootstrap, f"127.0.0.1:{tls}", f"127.0.0.1:{plain}", authority.ca)


def allow(bootstrap: str, kind: ResourceType, name: str, operations: str, prefixed: bool = False) -> None:
    pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
    bindings = [
        AclBinding(kind, name, pattern, f"User:{USER}", "*", AclOperation[operation], AclPermissionType.ALLOW)
        for operation in operations.split()
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_acls(bindings).values():
        future.result(30)


@pytest.mark.timeout(280)
def test_scram_over_tls_with_the_rights_of_the_chart_is_exactly_once(
    guarded, ray_cluster, settings_for, make_alerts, topics_at
) -> None:
    theirs = topics_at(guarded.bootstrap)
    sent = make_alerts(ztf=40, lsst=40, seed=31, poison=2)
    topic = theirs.create_topic(partitions=2, max_message_bytes=4 << 20)
    theirs.produce(topic, [s.packet for s in sent])
    settings = settings_for(
        topic,
        source={
            "brokers": guarded.tls,
            "username": USER,
            "password": PASSWORD,
            "options": {"ssl.ca.location": str(guarded.ca)},
        },
        stream={"delivery": "exactly-once"},
    )
    sink, group = settings.sink, settings.source.group
    outputs = [sink.rejected, sink.ledger] + [
        name.format(survey=survey)
        for name in (sink.annotated, sink.classifications)
        for survey in ("ztf", "lsst")
    ]
    new = [NewTopic(name, 2, config={"max.message.bytes": str(4 << 20)}) for name in outputs]
    admin = AdminClient({"bootstrap.servers": guarded.bootstrap})  # its futures end with it
    for future in admin.create_topics(new).values():
        future.result(30)
    # As templates/strimzi.yaml has them (test_strimzi_makes_topics_and_a_user_with_no_more_rights_than_needed).
    allow(guarded.bootstrap, ResourceType.TOPIC, topic, "READ DESCRIBE")
    allow(guarded.bootstrap, ResourceType.GROUP, group, "READ DESCRIBE")
    allow(guarded.bootstrap, ResourceType.TRANSACTIONAL_ID, f"{group}.", "WRITE DESCRIBE", prefixed=True)
    for name in outputs:
        allow(guarded.bootstrap, ResourceType.TOPIC, name, "READ WRITE DESCRIBE DESCRIBE_CONFIGS")
    run_application(settings, threading.Event())
    assert_all_answered(Outputs(theirs, settings), sent, exactly=True)
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(280)
def test_the_shipped_settings_for_rubin_read_a_source_like_rubins(
    guarded, kafka, broker, ray_cluster, make_alerts, topics_at, settings_for, tmp_path, monkeypatch
) -> None:
    """SCRAM-SHA-512 without TLS, reading and nothing else, groups by the user's name: offsets stand on our cluster."""
    theirs = topics_at(guarded.bootstrap)
    sent = make_alerts(lsst=40, seed=32)
    topic = theirs.create_topic(partitions=3, max_message_bytes=4 << 20)
    theirs.produce(topic, [s.packet for s in sent])
    allow(guarded.bootstrap, ResourceType.TOPIC, topic, "READ DESCRIBE")
    allow(guarded.bootstrap, ResourceType.GROUP, USER, "READ", prefixed=True)
    of_the_test = settings_for(topic)  # names of the outputs, the folder of schemas, a pace for tests
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    monkeypatch.setenv("RUBIN_USER", USER)
    settings = load_settings(
        BROKERS / "rubin.toml",
        {
            "source": {
                "brokers": guarded.plain,
                "topics": [topic],
                "username": USER,
                "password_file": str(secret),
                "group": f"{USER}-space2vec",
            },
            "sink": of_the_test.sink.model_dump() | {"brokers": kafka.bootstrap, "options": {}},
            "schemas": {"folder": str(tmp_path), "registry_url": "http://127.0.0.1:1"},
            "model": of_the_test.model.model_dump(),
            "stream": of_the_test.stream.model_dump(),
        },
    )
    run_application(settings, threading.Event())
    exactly = settings.stream.delivery != "at-least-once"
    assert_all_answered(Outputs(kafka, settings), sent, exactly=exactly)
    assert all(account.balanced for account in audit(settings))


@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("username", "password", "authority", "told"),
    [
        (USER, "wrong-guess", "survey", "authentication"),
        ("nobody", PASSWORD, "survey", "authentication"),
        (USER, PASSWORD, "another", "certificate verify failed"),
    ],
)
def test_who_may_not_in_is_told_why_and_no_secret(
    guarded, settings_for, tmp_path, caplog, username, password, authority, told
) -> None:
    certificates(tmp_path, "another")
    settings: Settings = settings_for(
        "any",
        source={
            "brokers": guarded.tls,
            "username": username,
            "password": password,
            "options": {"ssl.ca.location": str(tmp_path / f"{authority}-ca.pem")},
        },
    )
    with pytest.raises(KafkaError) as raised:
        run_application(settings, threading.Event())
    assert told in str(raised.value).lower()
    assert guarded.tls in str(raised.value)
    assert password not in str(raised.value) + caplog.text
