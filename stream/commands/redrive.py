"""``space2vec redrive``: dead letters once more, after a fix."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any, Final

from cyclopts import App, Parameter

from space2vec.stream.commands.flags import Config, Json, ModelFlags, PacketFlags, milliseconds
from space2vec.stream.commands.signals import draining_on_signals

EXAMPLES: Final = """\
What can be scored now comes out as if it had been scored the first time;
what is rejected again is a dead letter again.

Examples:
  space2vec redrive -b broker:9092 unknown-rejected --reason unknown_schema --registry http://registry:8081
  space2vec redrive --config night.toml lsst-rejected --since 2026-11-21T22:00 --until 2026-11-22T10:00
"""

app = App(name="redrive", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def redrive(
    topic: str,
    /,
    *,
    brokers: Annotated[str | None, Parameter(alias="-b")] = None,
    group: Annotated[str | None, Parameter(alias="-g")] = None,
    reason: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    config: Config = None,
    packets: PacketFlags | None = None,
    model: ModelFlags | None = None,
    json_: Json = False,
) -> None:
    """Put dead letters through again, each once, whatever earlier redrives have picked.

    Parameters
    ----------
    topic
        Dead-letter topic.
    brokers
        Bootstrap servers of the cluster that holds it, host:port.
    group
        Consumer group of the run.
    reason
        Only dead letters with this reason code; may be repeated.
    since
        Only those rejected at or after this time, UTC.
    until
        Only those rejected before this time, UTC.
    config
        Settings file of the run.
    json_
        The summary as one JSON line.
    """
    from space2vec.schemas.errors import ConfigError, Reason
    from space2vec.stream.config import load_settings
    from space2vec.stream.redrive import redrive as put_through

    unknown = sorted(set(reason) - {str(known) for known in Reason})
    if unknown:
        raise ConfigError(f"--reason {unknown[0]}: no such code; there are {', '.join(map(str, Reason))}")
    overrides: dict[str, dict[str, Any]] = {
        "source": {"brokers": brokers, "group": group},
        "schemas": dict((packets or PacketFlags()).overrides()),
        "model": dict((model or ModelFlags()).overrides()),
    }
    settings = load_settings(config, overrides)
    with draining_on_signals() as stop:
        span = milliseconds(since) or 0, milliseconds(until) or 1 << 62
        counts = put_through(settings, topic, set(reason), *span, stop)
    told = {
        "redriven": counts.messages,
        "scored": counts.scored,
        "degraded": counts.degraded,
        "rejected": counts.rejected,
        "reasons": dict(counts.reasons),
    }
    if json_:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stderr.write(" ".join(f"{name}={value}" for name, value in told.items()) + "\n")
