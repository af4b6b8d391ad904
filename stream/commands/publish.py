"""``space2vec publish``: an archive as a source stream, for rehearsals."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Final

from cyclopts import App, Parameter
from cyclopts.types import PositiveFloat

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import FAILED, OK, UNFINISHED
from space2vec.stream.commands.flags import Config, Json, KafkaFlags, PacketFlags
from space2vec.stream.commands.signals import draining_on_signals

EXAMPLES: Final = """\
Damaged packets go out too: they are what a consumer must live with.

Examples:
  space2vec publish ztf_public_20261122.tar.gz --to rehearsal -b localhost:9092
  space2vec publish nights/ --to rehearsal -b localhost:9092 --speed 10
"""

app = App(name="publish", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def publish(
    sources: Annotated[list[str], Parameter(name="SOURCE", negative_iterable=())],
    /,
    *,
    to: str,
    rate: PositiveFloat | None = None,
    speed: PositiveFloat | None = None,
    packets: PacketFlags | None = None,
    kafka: KafkaFlags | None = None,
    config: Config = None,
    json_: Json = False,
) -> int:
    """Publish the packets of archives to a topic, as they are.

    Parameters
    ----------
    sources
        Tar archives, Avro containers, or folders of packets; paths, globs, or URLs (s3://, https://).
    to
        Topic; made if it is not there.
    rate
        Alerts per second.
    speed
        Keep the gaps between the alerts' own times: 1 as observed, 10 ten times as fast.
    config
        Settings file, TOML or YAML.
    json_
        The summary as one JSON line.
    """
    from space2vec.schemas.profiles import Profiles
    from space2vec.schemas.reader import PacketReader
    from space2vec.schemas.writers import writer_schemas
    from space2vec.stream.config import load_settings
    from space2vec.stream.kafka_config import cluster_properties
    from space2vec.stream.pacing import Pacing
    from space2vec.stream.replay_archives import find_archives
    from space2vec.stream.replay_publish import publish_archives
    from space2vec.stream.replay_report import reporting

    if rate is not None and speed is not None:
        raise ConfigError("--rate and --speed: take one")
    sections = {
        "source": (kafka or KafkaFlags()).overrides(),
        "schemas": (packets or PacketFlags()).overrides(),
    }
    settings = load_settings(config, sections)
    archives = find_archives(sources)
    reader = PacketReader(writer_schemas(settings.schemas), Profiles.load(settings.schemas.profiles))
    properties, pace = cluster_properties(settings.source), Pacing(rate, speed).pace(reader)
    began = time.monotonic()
    with draining_on_signals() as stop, reporting(archives) as tell:
        done = publish_archives(properties, settings.sink, to, archives, pace, stop, tell)
    took = time.monotonic() - began
    told = {
        "published": done.packets,
        "bytes": done.size,
        "rate": round(done.packets / took, 1),
        "behind_s": round(done.behind_s, 1),
        "seconds": round(took, 2),
        "faults": done.faults,
    }
    if json_:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        sys.stderr.writelines(f"{fault}\n" for fault in done.faults)
        sys.stderr.write(
            f"{done.packets} packets ({done.size >> 20} MiB) to {to}: {told['rate']}/s, {told['seconds']} s\n"
        )
        if done.behind_s >= 1:
            sys.stderr.write(f"the pace was not kept: up to {told['behind_s']} s behind\n")
        if stop.is_set():
            sys.stderr.write("stopped before the end\n")
    if done.faults:
        return FAILED
    return UNFINISHED if stop.is_set() else OK
