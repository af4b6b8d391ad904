"""``space2vec broker``."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Final, Literal

from cyclopts import App

from space2vec.schemas.errors import KafkaError
from space2vec.stream.brokers import ApacheCluster, EmbeddedBroker
from space2vec.stream.commands.flags import Json
from space2vec.stream.commands.signals import interrupt_on_signals

EXAMPLES: Final = """\
Its address goes to stdout once it answers. When it ends, every message is
forgotten.

Examples:
  space2vec broker
  space2vec broker --kind apache --port 9093
  space2vec broker --json
"""

app = App(name="broker", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def broker(
    *, kind: Literal["embedded", "apache"] = "embedded", port: int = 9092, json_: Json = False
) -> None:
    """Start a Kafka broker for development, on this machine alone, until Ctrl-C.

    Parameters
    ----------
    kind
        The embedded broker (Tansu, in memory), or Apache Kafka (needs Java 17; Maven fetches it once).
    port
        Port of 127.0.0.1 to listen on.
    json_
        One JSON line instead of the bare address.
    """
    interrupt_on_signals()
    with EmbeddedBroker(port) if kind == "embedded" else ApacheCluster(port=port) as running:
        address = running.bootstrap
        sys.stdout.write((json.dumps({"bootstrap": address, "kind": kind}) if json_ else address) + "\n")
        sys.stdout.flush()
        sys.stderr.write(f"{kind} broker at {address}; Ctrl-C ends it\n")
        if running.cannot_prove:
            sys.stderr.write(f"what it cannot prove: {running.cannot_prove}\n")
        with contextlib.suppress(KeyboardInterrupt):
            while (reason := running.ended()) is None:
                time.sleep(1)
            raise KafkaError(reason)
