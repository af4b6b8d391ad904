"""The brokers that the other tests stand on: are they Kafka, and do they go when they should?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from space2vec.schemas.errors import ConfigError, KafkaError
from space2vec.stream import broker_jars
from space2vec.stream.broker_common import Supervised, free_ports
from space2vec.stream.brokers import EmbeddedBroker, find_broker, start_broker

QUICK_FENCING = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}


# -- what a broker must do --------------------------------------------------------------------------------------


def test_messages_come_back_as_they_went(kafka):
    topic = kafka.create_topic(partitions=3)
    values = [bytes([number]) * number for number in range(1, 50)]
    keys = [b"object-%d" % (number % 5) for number in range(1, 50)]
    places = kafka.produce(topic, values, keys, headers=[[("n", b"%d" % number)] for number in range(1, 50)])
    messages = kafka.read(topic)
    assert {(message.partition(), message.offset()) for message in messages} == set(places)
    back = {(message.partition(), message.offset()): message for message in messages}
    assert [back[place].value() for place in places] == values
    assert [back[place].key() for place in places] == keys
    assert back[places[0]].headers() == [("n", b"1")]


def test_a_large_packet_passes(kafka):
    packet = os.urandom(3 << 20)
    topic = kafka.create_topic(partitions=1, max_message_bytes=10 << 20)
    kafka.produce(topic, [packet])
    assert [message.value() for message in kafka.read(topic, 1)] == [packet]


def test_reading_says_when_messages_are_missing(kafka):
    topic = kafka.create_topic(partitions=1)
    kafka.produce(topic, [b"1"])
    with pytest.raises(TimeoutError, match="1 of 2 messages"):
        kafka.read(topic, 2, deadline_s=3)


def test_two_members_share_a_group(kafka):
    topic, group = kafka.create_topic(partitions=4), kafka.group()
    members = [_member(kafka.bootstrap, group) for _ in range(2)]
    for member in members:
        member.subscribe([topic])
    deadline = time.monotonic() + 60
    shares: list[set[int]] = []
    while sorted(map(len, shares)) != [2, 2]:
        assert time.monotonic() < deadline, f"no even share within 60 s: {shares}"
        for member in members:
            member.poll(0.1)
        shares = [{place.partition for place in member.assignment()} for member in members]
    assert shares[0] | shares[1] == {0, 1, 2, 3}
    for member in members:
        member.close()


def test_a_group_goes_on_from_what_was_committed(kafka):
    topic, group = kafka.create_topic(partitions=1), kafka.group()
    kafka.produce(topic, [b"1", b"2", b"3"])
    member = _member(kafka.bootstrap, group)
    member.subscribe([topic])
    first = _next(member)
    member.commit(first, asynchronous=False)
    member.close()
    member = _member(kafka.bootstrap, group)
    member.subscribe([topic])
    assert (first.value(), _next(member).value()) == (b"1", b"2")
    member.close()


def test_an_aborted_transaction_is_not_seen(kafka, broker):
    if broker.kind == "embedded":
        pytest.skip(f"not provable on the embedded broker: {broker.cannot_prove}")
    topic = kafka.create_topic(partitions=1)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": kafka.group()})
    producer.init_transactions(30)
    for value, end in ((b"aborted", producer.abort_transaction), (b"kept", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(30)
        end(30)
    assert [message.value() for message in kafka.read(topic)] == [b"kept"]
    raw = kafka.read(topic, isolation="read_uncommitted")
    assert [message.value() for message in raw] == [b"aborted", b"kept"]


@pytest.mark.timeout(300)
def test_a_cluster_loses_nothing_acknowledged_when_a_broker_is_killed(apache_cluster, topics_at):
    cluster = apache_cluster(brokers=3, properties=QUICK_FENCING)
    kafka = topics_at(cluster.bootstrap)
    topic = kafka.create_topic(partitions=6)
    acknowledged: list[bytes] = []

    def note(error: object, message: object) -> None:
        assert error is None, str(error)
        acknowledged.append(message.value())  # type: ignore[attr-defined]

    producer = Producer({"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True, "log_level": 0})

    def send(first: int, last: int) -> None:
        for number in range(first, last):
            producer.produce(topic, b"%d" % number, on_delivery=note)
        assert producer.flush(60) == 0

    send(0, 500)
    cluster.kill(2)
    send(500, 1000)
    cluster.start(2)
    send(1000, 1500)
    cluster.kill(1)
    back = sorted(int(message.value()) for message in kafka.read(topic, 1500))
    assert back == sorted(map(int, acknowledged)) == list(range(1500))


def _member(bootstrap: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
        }
    )


def _next(member: Consumer):
    deadline = time.monotonic() + 60
    while (message := member.poll(0.2)) is None:
        assert time.monotonic() < deadline, "no message within 60 s"
    assert message.error() is None
    return message


# -- which broker is taken --------------------------------------------------------------------------------------


@pytest.fixture
def bare_path(monkeypatch, tmp_path):
    """A machine with neither Docker nor Java nor Maven on its path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tmp_path


def test_where_nothing_better_is_had_the_embedded_one_is_taken_and_it_is_said(bare_path):
    told: list[str] = []
    with find_broker({}, told.append) as broker:
        assert broker.kind == "embedded"
        assert "exactly-once" in broker.cannot_prove
    assert [line.partition(":")[0] for line in told] == ["docker", "apache"]


@pytest.mark.parametrize("kind", ["docker", "apache"])
def test_a_broker_asked_for_by_name_is_not_replaced_by_another(bare_path, kind):
    told: list[str] = []
    with pytest.raises(KafkaError, match=r"no docker|no Java"):
        find_broker({"SPACE2VEC_TEST_BROKER": kind}, told.append)
    assert told == []


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"SPACE2VEC_TEST_BROKER": "redpanda"}, "no broker of kind 'redpanda'"),
        ({"SPACE2VEC_TEST_BROKER": "external"}, "SPACE2VEC_TEST_BROKERS=host:port"),
        ({"SPACE2VEC_TEST_BROKERS": "127.0.0.1:9092"}, "of no use"),
    ],
)
def test_contradictory_wishes_are_refused(environment, complaint):
    with pytest.raises(ConfigError, match=complaint):
        find_broker(environment, print)


def test_an_external_broker_is_used_and_left_running():
    with EmbeddedBroker() as other:
        wish = {"SPACE2VEC_TEST_BROKER": "external", "SPACE2VEC_TEST_BROKERS": other.bootstrap}
        with find_broker(wish, print) as broker:
            assert (broker.kind, broker.bootstrap) == ("external", other.bootstrap)
        assert other.ended() is None


def test_a_port_that_is_taken_is_an_error_with_the_brokers_own_words():
    with EmbeddedBroker() as first:
        port = int(first.bootstrap.rpartition(":")[2])
        second = EmbeddedBroker(port)
        with pytest.raises(KafkaError, match="in use"):
            second.launch()


def test_an_old_java_is_refused(bare_path):
    java = bare_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    with pytest.raises(KafkaError, match="needs Java 17"):
        start_broker("apache")


# -- the jars ---------------------------------------------------------------------------------------------------

FAKE_MAVEN = """#!/bin/sh
for word; do case $word in -DoutputDirectory=*) folder=${word#*=};; esac; done
/bin/mkdir -p "$folder"
echo jar > "$folder/kafka_2.13-test.jar"
"""


def _maven(path: Path, script: str) -> None:
    (path / "mvn").write_text(script)
    (path / "mvn").chmod(0o755)


def test_jars_are_fetched_once_even_by_many_at_a_time(bare_path, monkeypatch):
    _maven(bare_path, FAKE_MAVEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare_path / "cache"))
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(broker_jars.kafka_jars())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jars = bare_path / "cache" / "space2vec" / f"kafka-{broker_jars.KAFKA_VERSION}"
    assert found == [jars] * 8
    assert [path.name for path in jars.iterdir()] == ["kafka_2.13-test.jar"]
    assert list(jars.parent.iterdir()) == [jars], "staging folders are left behind"
    _maven(bare_path, "#!/bin/sh\nexit 1\n")
    assert broker_jars.kafka_jars() == jars


@pytest.mark.parametrize("script", ["#!/bin/sh\necho '[ERROR] no route to host'; exit 1\n", "#!/bin/sh\n"])
def test_a_fetch_that_fails_leaves_nothing_and_says_why(bare_path, monkeypatch, script):
    _maven(bare_path, script)
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare_path / "cache"))
    with pytest.raises(KafkaError, match=r"no route to host|said nothing"):
        broker_jars.kafka_jars()
    assert list((bare_path / "cache" / "space2vec").iterdir()) == []


# -- processes --------------------------------------------------------------------------------------------------


def test_a_broker_dies_with_its_parent_even_by_sigkill(tmp_path):
    log = tmp_path / "log"
    script = (
        "import sys, time; from pathlib import Path; from space2vec.stream.broker_common import Supervised; "
        f"Supervised(['/bin/sh', '-c', 'echo $$; exec sleep 300'], Path({str(log)!r})); "
        "print('started', flush=True); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    child = int(_eventually(lambda: log.read_text().strip()))
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    _eventually(lambda: not _alive(child))


def test_a_killed_process_is_gone_when_kill_returns(tmp_path):
    process = Supervised(["/bin/sh", "-c", "echo $$; exec sleep 300"], tmp_path / "log")
    child = int(_eventually(process.complaint))
    assert process.running
    process.kill()
    assert not process.running
    assert not _alive(child)
    process.kill()


def test_a_process_that_ends_by_itself_is_noticed_with_its_last_words(tmp_path):
    process = Supervised(["/bin/sh", "-c", "echo out of memory >&2; exit 3"], tmp_path / "log")
    _eventually(lambda: not process.running)
    assert process.complaint() == "out of memory"
    process.kill()


def test_free_ports_are_distinct_and_below_the_ephemeral_range():
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(20000 <= port < 32768 for port in ports)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _eventually(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.02)
    return found


# -- the verb ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_verb_prints_an_address_that_answers_and_ends_when_told(topics_at, end):
    port = free_ports(1)[0]
    program = "from space2vec.stream.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "broker", "--port", str(port), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f'{{"bootstrap": "127.0.0.1:{port}", "kind": "embedded"}}\n'
    kafka = topics_at(f"127.0.0.1:{port}")
    topic = kafka.create_topic(partitions=1)
    kafka.produce(topic, [b"alert"])
    assert [message.value() for message in kafka.read(topic)] == [b"alert"]
    process.send_signal(end)
    rest, told = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, ""), told
    assert "exactly-once" in told


def test_the_verb_says_in_one_line_why_it_cannot_start():
    with EmbeddedBroker() as other:
        port = other.bootstrap.rpartition(":")[2]
        program = "from space2vec.stream.cli import main; main()"
        command = [sys.executable, "-c", program, "broker", "--port", port]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"127.0.0.1:{port} is in use" in done.stderr.splitlines()[0]
