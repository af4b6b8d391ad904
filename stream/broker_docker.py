"""Apache Kafka in a container, where a Docker engine runs."""

from __future__ import annotations

import shutil
import subprocess
import uuid

from space2vec.schemas.errors import KafkaError
from space2vec.stream.broker_apache import server_properties
from space2vec.stream.broker_common import Broker, await_brokers, free_ports
from space2vec.stream.broker_jars import KAFKA_VERSION

APACHE_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
"""The Apache Kafka project's own image."""

_READY_S = 120
_PULL_S = 300


class DockerBroker(Broker):
    """One Apache Kafka broker in a container, published on 127.0.0.1.

    Parameters
    ----------
    image : str
        An image that is configured as ``apache/kafka`` is: broker properties as ``KAFKA_*`` variables.
    """

    kind = "docker"

    def __init__(self, image: str = APACHE_IMAGE) -> None:
        self.image = image
        self._port = free_ports(1)[0]
        self._name = f"space2vec-kafka-{uuid.uuid4().hex[:12]}"
        self._guard: subprocess.Popen[bytes] | None = None
        self.bootstrap = f"127.0.0.1:{self._port}"

    def _launch(self) -> None:
        if shutil.which("docker") is None:
            raise KafkaError("no docker on the path")
        _docker("info", "--format", "{{.ServerVersion}}", timeout_s=20)
        try:
            _docker("image", "inspect", self.image, timeout_s=20)
        except KafkaError:
            _docker("pull", "--quiet", self.image, timeout_s=_PULL_S)
        # The container is the engine's child, not ours: a guard removes it when our end of its standard
        # input closes, which it does however we end.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; exec docker rm --force "$0"', self._name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        publish = f"127.0.0.1:{self._port}:{self._port}"
        environment = [f"--env={name}={value}" for name, value in self._environment().items()]
        _docker("run", "--detach", "--name", self._name, "--publish", publish, *environment, self.image)
        await_brokers(self.bootstrap, count=1, deadline_s=_READY_S, ended=self.ended)

    def _environment(self) -> dict[str, str]:
        properties = server_properties(
            1,
            listeners=f"BROKER://0.0.0.0:{self._port},CONTROLLER://127.0.0.1:9093",
            advertised=f"BROKER://{self.bootstrap}",
            voters={1: "127.0.0.1:9093"},
        )
        return {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in properties.items()}

    def ended(self) -> str | None:
        """Return None while the container runs, else how it ended."""
        if _docker("inspect", "--format", "{{.State.Running}}", self._name).strip() == "true":
            return None
        return f"{self.image} ended: {_docker('logs', '--tail', '20', self._name)}"

    def stop(self) -> None:
        """Remove the container, and every message with it."""
        if self._guard is not None:
            self._guard.communicate()
            self._guard = None


def _docker(*arguments: str, timeout_s: float = 60) -> str:
    try:
        done = subprocess.run(
            ["docker", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KafkaError(f"docker {arguments[0]}: no answer within {timeout_s:g} s") from None
    if done.returncode != 0:
        raise KafkaError(f"docker {arguments[0]}: {done.stdout.strip()}")
    return done.stdout
