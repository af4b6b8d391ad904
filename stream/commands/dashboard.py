"""``space2vec dashboard``: the page to look at."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import App, Parameter

from space2vec.stream.commands.flags import Config, Json, KafkaFlags, PacketFlags
from space2vec.stream.commands.signals import wait_for_the_end

if TYPE_CHECKING:
    from space2vec.schemas.settings import Settings

EXAMPLES: Final = """\
Reads the output topics beside whatever writes them: it joins no group,
commits nothing, and can be started and ended at any time. Give it the
settings of the run. On this machine alone, unless --host says otherwise;
then it asks for a token.

Examples:
  space2vec dashboard -b broker:9092 -t ztf_{night}_programid1
  space2vec dashboard --config night.toml --port 0
  SPACE2VEC_DASHBOARD__TOKEN_FILE=token space2vec dashboard --config night.toml --host 0.0.0.0
"""

app = App(name="dashboard", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def dashboard(
    *,
    kafka: KafkaFlags | None = None,
    topic: Annotated[tuple[str, ...], Parameter(alias="-t", negative="")] = (),
    group: Annotated[str | None, Parameter(alias="-g")] = None,
    output_brokers: str | None = None,
    host: str | None = None,
    port: int | None = None,
    packets: PacketFlags | None = None,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Serve a page that shows the stream: rate, lag, latency, scores, the newest candidates, the rejected.

    Parameters
    ----------
    topic
        Topic of the run, for the lag; may be repeated.
    group
        Consumer group of the run, for the lag.
    output_brokers
        Cluster of the outputs, where it is not the source's.
    host
        Address to listen on; any but this machine's own needs a token (dashboard.token_file).
    port
        Port to listen on; 0: any.
    config
        Settings file of the run (TOML or YAML).
    json_
        The page's address as one JSON line.
    """
    from space2vec.stream.config import load_settings

    overrides: dict[str, dict[str, Any]] = {
        "source": {**(kafka or KafkaFlags()).overrides(), "topics": topic or None, "group": group},
        "sink": {"brokers": output_brokers},
        "schemas": dict((packets or PacketFlags()).overrides()),
        "dashboard": {"host": host, "port": port},
    }
    with serving(load_settings(config, overrides)) as address:
        sys.stdout.write((json.dumps({"page": address}) if json_ else address) + "\n")
        sys.stdout.flush()
        sys.stderr.write("the page is served; Ctrl-C ends it\n")
        wait_for_the_end()


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Serve the page of a stream; gives its address."""
    from space2vec.schemas.profiles import Profiles
    from space2vec.schemas.reader import PacketReader
    from space2vec.schemas.writers import writer_schemas
    from space2vec.stream.dashboard.feed import Feed
    from space2vec.stream.dashboard.server import Server
    from space2vec.stream.dashboard.store import Store
    from space2vec.stream.kafka_config import sink_cluster

    wanted, schemas = settings.dashboard, settings.schemas
    where = f"{sink_cluster(settings.sink, settings.source).brokers} · group {settings.source.group}"
    store = Store(wanted.keep, wanted.keep_bytes, where)
    profiles = Profiles.load(schemas.profiles)

    def reader() -> PacketReader:
        return PacketReader(writer_schemas(schemas), profiles, survey=schemas.survey)

    with Server(wanted, store, reader()) as server, Feed(settings, store, reader()):
        yield server.address
