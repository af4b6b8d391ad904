"""What every development broker has in common: a life, ports of its own, and an end with its parent."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from space2vec.schemas.errors import KafkaError

MESSAGE_MAX_BYTES = 10 << 20
"""Largest message that a development broker takes, in bytes: 30 times an LSST packet with a year of history."""

# A line on the shell's standard input, or its end, has the watcher kill the broker; and it ends when we
# do, however we end. (PR_SET_PDEATHSIG would follow the *thread* that started the broker, and a preexec_fn
# is unsafe beside librdkafka's threads.) The shell reaps the broker, so once it is gone the ports are free.
_SUPERVISOR = """
exec 3<&0
"$@" 3<&- </dev/null & broker=$!
{ read -r _ <&3; kill -KILL $broker; } & watcher=$!
wait $broker; status=$?
kill $watcher 2>/dev/null
exit $status
"""


class Broker(ABC):
    """A Kafka broker, or cluster, for development and tests; used with ``with``, or launched and stopped.

    Attributes
    ----------
    kind : str
        ``external``, ``docker``, ``apache`` or ``embedded``.
    cannot_prove : str
        What a test that passes on this kind does not show about Apache Kafka; empty for Apache Kafka.
    bootstrap : str
        Bootstrap servers, ``host:port[,host:port...]``.
    """

    kind: ClassVar[str]
    cannot_prove: ClassVar[str] = ""
    bootstrap: str
    _launched = False

    @abstractmethod
    def _launch(self) -> None:
        """Start, and return once clients are answered."""

    @abstractmethod
    def stop(self) -> None:
        """End at once, and forget every message; harmless when repeated."""

    def launch(self) -> None:
        """Start, and return once clients are answered; harmless when repeated.

        Raises
        ------
        KafkaError
            When this kind cannot be had here, or does not answer in time; nothing is left running.
        """
        if self._launched:
            return
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        self._launched = True

    def __enter__(self) -> Self:
        self.launch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Supervised:
    """A process that is killed when this one ends, even when this one is itself killed.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    log : Path
        File that its output is appended to.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us to act on
            )

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._shell.poll() is None

    def kill(self) -> None:
        """Kill the process (SIGKILL) and wait until it is gone; harmless when it is."""
        stdin = self._shell.stdin
        if stdin is not None and not stdin.closed:
            self._shell.communicate(b"\n")

    def complaint(self) -> str:
        """Return the end of what the process has written, for an error message."""
        return self.log.read_text(errors="replace")[-2000:].strip()


def free_ports(count: int) -> list[int]:
    """Choose ports of 127.0.0.1 that nothing listens on.

    Ports below the ephemeral range (32768 and up on Linux): one above could be taken by any outgoing
    connection while a killed broker is down, which then could not return.

    Parameters
    ----------
    count : int
        How many.

    Returns
    -------
    list of int
        Distinct ports.
    """
    ports: list[int] = []
    for port in random.sample(range(20000, 32000), k=2000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise KafkaError(f"no {count} free ports between 20000 and 32000 on 127.0.0.1")


def require_free(address: str) -> None:
    """Refuse an address that something listens on already: it would answer in our broker's place.

    Parameters
    ----------
    address : str
        ``host:port``.

    Raises
    ------
    KafkaError
        When something listens there.
    """
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        if probe.connect_ex((host, int(port))) == 0:
            raise KafkaError(f"{address} is in use")


def await_brokers(bootstrap: str, count: int, deadline_s: float, ended: Callable[[], str | None]) -> None:
    """Wait until a cluster answers and knows at least so many brokers.

    Parameters
    ----------
    bootstrap : str
        Bootstrap servers, ``host:port[,host:port...]``.
    count : int
        Brokers that must be alive in the cluster's metadata.
    deadline_s : float
        How long to wait, in seconds.
    ended : callable
        Returns None while waiting makes sense, else why it does not.

    Raises
    ------
    KafkaError
        When ``ended`` says so, or the deadline passes.
    """
    deadline = time.monotonic() + deadline_s
    # log_level 0: refused connections are what we wait out, not news
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 500})
    answer = "no answer"
    while time.monotonic() < deadline:
        if (reason := ended()) is not None:
            raise KafkaError(reason)
        try:
            alive = len(admin.list_topics(timeout=1).brokers)
        except KafkaException as error:
            answer = str(error)
            continue
        if alive >= count:
            return
        answer = f"{alive} of {count} brokers"
        time.sleep(0.1)
    raise KafkaError(f"{bootstrap} not ready within {deadline_s:g} s: {answer}")
