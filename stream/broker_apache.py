"""Apache Kafka itself, one broker or three, on this machine: KRaft, no ZooKeeper, no container."""

from __future__ import annotations

import base64
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from space2vec.schemas.errors import KafkaError
from space2vec.stream.broker_common import (
    MESSAGE_MAX_BYTES,
    Broker,
    Supervised,
    await_brokers,
    free_ports,
    require_free,
)
from space2vec.stream.broker_jars import find_java, kafka_jars

# C1 alone and the serial collector: a broker is up in 2 s instead of 4, and three leave two cores usable.
_JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
_READY_S = 90


def server_properties(
    node: int, listeners: str, advertised: str, voters: Mapping[int, str]
) -> dict[str, str]:
    """Properties of one broker of a KRaft cluster whose brokers are all controllers too.

    Parameters
    ----------
    node : int
        Its id, one of ``voters``.
    listeners : str
        Addresses to bind: one named BROKER, one named CONTROLLER.
    advertised : str
        Address that clients are told, named BROKER.
    voters : mapping of int to str
        Controller address, ``host:port``, of every node.

    Returns
    -------
    dict of str to str
        What ``server.properties`` holds, but for ``log.dirs``.
    """
    copies = str(len(voters))
    enough = str(min(2, len(voters)))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": ",".join(f"{voter}@{address}" for voter, address in voters.items()),
        "listeners": listeners,
        "advertised.listeners": advertised,
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "default.replication.factor": copies,
        "min.insync.replicas": enough,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "4",  # each of the default 50 is a folder to make
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": enough,
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": enough,
        "group.initial.rebalance.delay.ms": "0",  # no waiting for members that will not come
        "group.min.session.timeout.ms": "1000",
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(MESSAGE_MAX_BYTES),
        "replica.fetch.max.bytes": str(MESSAGE_MAX_BYTES),
        "log.cleaner.dedupe.buffer.size": str(4 << 20),  # the default is a quarter of the heap
    }


class ApacheCluster(Broker):
    """Apache Kafka on this machine, its brokers each a controller too; node ids are 1, 2, 3.

    Parameters
    ----------
    brokers : int
        How many brokers; topics are replicated to all of them.
    directory : Path, optional
        Where properties, data and logs go, one folder a node; a temporary one when not given.
    properties : mapping of str to str, optional
        Broker properties over those of `server_properties`.
    port : int, optional
        Port of node 1; every other is chosen.
    jars : Path, optional
        Apache Kafka's jars; those of `kafka_jars` when not given.
    listener : str, optional
        One more listener of a single broker, ``NAME://host:port``, set up by ``properties``: to try
        authentication with.
    host : str
        Address that clients reach it at: another one than this machine's own lets in whoever can reach that.
    """

    kind = "apache"

    def __init__(
        self,
        brokers: int = 1,
        directory: Path | None = None,
        properties: Mapping[str, str] | None = None,
        port: int | None = None,
        jars: Path | None = None,
        listener: str = "",
        host: str = "127.0.0.1",
    ) -> None:
        chosen = free_ports(2 * brokers)
        nodes = range(1, brokers + 1)
        self._controllers = {node: f"127.0.0.1:{chosen.pop()}" for node in nodes}
        self.addresses = {node: f"{host}:{chosen.pop()}" for node in nodes}
        if port is not None:
            self.addresses[1] = f"{host}:{port}"
        self.bootstrap = ",".join(self.addresses.values())
        self._directory = directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._properties = dict(properties or {})
        self._jars = jars
        self._listener = f",{listener}" if listener else ""
        self._java = ""
        self._running: dict[int, Supervised] = {}

    def _launch(self) -> None:
        self._java = find_java()
        self._jars = self._jars or kafka_jars()
        for address in self.addresses.values():
            require_free(address)
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="space2vec-kafka-")
            self._directory = Path(self._temporary.name)
        # Without dashes: Kafka's tool would take an id that begins with one for an option.
        cluster = base64.b64encode(uuid.uuid4().bytes, b"AB").decode().rstrip("=")
        for node in self.addresses:
            self._format(node, cluster)
        for node in self.addresses:
            self._spawn(node)
        for node in self.addresses:
            self._await(node)

    def start(self, node: int) -> None:
        """Start a broker that was killed, and return once it answers clients.

        Parameters
        ----------
        node : int
            Its id, 1 to the number of brokers.

        Raises
        ------
        KafkaError
            When it does not answer in time.
        """
        self._spawn(node)
        self._await(node)

    def kill(self, node: int) -> None:
        """Kill a broker (SIGKILL), as a crash would; return once it is gone.

        Parameters
        ----------
        node : int
            Its id, 1 to the number of brokers.
        """
        self._running.pop(node).kill()

    def stop(self) -> None:
        """Kill every broker, and remove what is in a temporary directory."""
        for node in list(self._running):
            self.kill(node)
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = self._directory = None

    def ended(self) -> str | None:
        """Return None while every broker that was started and not killed runs, else how one ended."""
        for node, process in self._running.items():
            if not process.running:
                return f"Apache Kafka node {node} at {self.addresses[node]} ended: {process.complaint()}"
        return None

    def folder(self, node: int) -> Path:
        """Folder of a node: ``server.properties``, ``data/`` and ``log``.

        Parameters
        ----------
        node : int
            Its id.

        Returns
        -------
        Path
            The folder; there is none before the launch.
        """
        assert self._directory is not None, "the cluster is not launched"
        return self._directory / f"node-{node}"

    def _command(self, main: str, *arguments: str) -> list[str]:
        temporary = (
            f"-Djava.io.tmpdir={self._directory}"  # a killed broker leaves its unpacked libraries behind
        )
        return [self._java, *_JVM, temporary, "-cp", f"{self._jars}/*", main, *arguments]

    def _format(self, node: int, cluster: str) -> None:
        folder = self.folder(node)
        folder.mkdir(parents=True)
        broker, controller = self.addresses[node], self._controllers[node]
        properties = server_properties(
            node,
            f"BROKER://{broker},CONTROLLER://{controller}{self._listener}",
            f"BROKER://{broker}{self._listener}",
            self._controllers,
        )
        properties |= {"log.dirs": str(folder / "data")} | self._properties
        path = folder / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        done = subprocess.run(
            self._command("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(path)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaError(f"Apache Kafka could not format {folder}: {(done.stdout + done.stderr).strip()}")

    def _spawn(self, node: int) -> None:
        folder = self.folder(node)
        command = self._command("kafka.Kafka", str(folder / "server.properties"))
        self._running[node] = Supervised(command, folder / "log")

    def _await(self, node: int) -> None:
        # Asked of the node itself, which answers only once the cluster has let it in: the others could
        # still list it from before it was killed.
        await_brokers(self.addresses[node], len(self._running), _READY_S, self.ended)
