"""``space2vec replay``: archives in, the classifications of the live stream out."""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from datetime import datetime
from typing import Annotated, Any, Final

from cyclopts import App, Parameter
from cyclopts.types import PositiveFloat, PositiveInt
from cyclopts.validators import Number

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import FAILED, OK, UNFINISHED
from space2vec.stream.commands.flags import (
    Config,
    Json,
    KafkaFlags,
    ModelFlags,
    PacketFlags,
    Switch,
    milliseconds,
)
from space2vec.stream.commands.signals import draining_on_signals

EXAMPLES: Final = """\
Examples:
  space2vec replay ztf_public_20261122.tar.gz --to parquet:scores/
  space2vec replay 'nights/*.tar.gz' --to kafka:ztf-rescored -b broker:9092 --model my-bundle/
  space2vec replay s3://archive/2026/ --to parquet:scores/ --workers 8 --ray-address auto
  space2vec replay night.tar.gz --to kafka:rehearsal --speed 10
  space2vec replay kafka:ztf_20261122_programid1 --since 2026-11-22 --until 2026-11-23 --to parquet:scores/

Stop it whenever you like and give the same command again: it goes on where
it was. What is done is not done again, unless you say --again.
"""

app = App(name="replay", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def replay(
    sources: Annotated[list[str], Parameter(name="SOURCE", negative_iterable=())],
    /,
    *,
    to: str,
    annotated: str = "",
    rate: PositiveFloat | None = None,
    speed: PositiveFloat | None = None,
    cores: PositiveFloat | None = None,
    nice: Annotated[int, Parameter(validator=Number(gte=0, lte=19))] = 0,
    since: datetime | None = None,
    until: datetime | None = None,
    verify: str | None = None,
    again: Switch = False,
    embedding: bool = True,
    local: Switch = False,
    workers: PositiveInt | None = None,
    classifiers: PositiveInt | None = None,
    ray_address: str | None = None,
    packets: PacketFlags | None = None,
    model: ModelFlags | None = None,
    kafka: KafkaFlags | None = None,
    config: Config = None,
    json_: Json = False,
) -> int:
    """Classify archives of alerts as the live stream would, each alert once, wherever it is stopped.

    Parameters
    ----------
    sources
        Tar archives, Avro containers, Parquet tables with stamps, or folders of them; paths, globs, or URLs (s3://,
        https://). kafka:TOPIC for what a topic was given between --since and --until.
    to
        kafka:TOPIC for classification records, parquet:DIR or avro:DIR for files by night.
    annotated
        Kafka topic for annotated alerts as well; otherwise the packets do not go out again.
    rate
        Alerts per second at most, per archive.
    speed
        Keep the gaps between the alerts' own times: 1 as observed, 10 ten times as fast.
    cores
        Use at most so much of the processor, 0.5 for half a core. On Ray --workers and --classifiers say it.
    nice
        Give way to everything else on the machine by so much, up to 19; on Ray the actors do.
    since
        Of a topic, only messages from this time on, UTC.
    until
        Of a topic, only messages before this time, UTC.
    verify
        List of MD5 sums (ZTF's MD5SUMS) to hold the archives against first.
    again
        Replay archives that are done, too.
    embedding
        Whether to write the embeddings.
    local
        Stay in this process; so it is for a single archive unless --workers says otherwise.
    workers
        Archives replayed side by side on Ray.
    classifiers
        Classifier actors on Ray.
    ray_address
        Ray cluster to join; none: start one here.
    config
        Settings file, TOML or YAML.
    json_
        The summary as one JSON line.
    """
    from space2vec.stream.config import load_settings
    from space2vec.stream.pacing import Pacing
    from space2vec.stream.replay import Replay
    from space2vec.stream.replay_archives import verify as hold_against
    from space2vec.stream.replay_fleet import replay_here, replay_on_ray
    from space2vec.stream.replay_kafka import apart
    from space2vec.stream.replay_report import reporting, summary, told
    from space2vec.stream.replay_topics import find_sources
    from space2vec.workers.niceness import give_way

    if sum(given is not None for given in (rate, speed, cores)) > 1:
        raise ConfigError("--rate, --speed and --cores: take one")
    overrides: dict[str, dict[str, Any]] = {
        "source": dict((kafka or KafkaFlags()).overrides()),
        "sink": {"embedding": embedding},
        "schemas": dict((packets or PacketFlags()).overrides()),
        "model": dict((model or ModelFlags()).overrides()),
        "ray": {"address": ray_address, "workers": workers, "classifiers": classifiers},
        "stream": {"dedup_window": 0},  # a window is lost at every stop: the same archive would differ
    }
    settings = apart(load_settings(config, overrides))
    archives = find_sources(sources, settings, milliseconds(since), milliseconds(until))
    for archive in archives if verify is not None else ():
        assert verify is not None
        hold_against(archive, verify)
    asked = Replay(settings, to, annotated, Pacing(rate, speed, cores), again, nice)
    on_ray = workers is not None or ray_address is not None or (len(archives) > 1 and not local)
    if local and (workers is not None or ray_address is not None):
        raise ConfigError("--local is without --workers and --ray-address")
    if on_ray and cores is not None:
        raise ConfigError("--cores is for one process: take --local, or on Ray --workers and --classifiers")
    give_way(nice)
    began = time.monotonic()
    with (
        draining_on_signals() as stop,
        reporting(archives) as tell,
        redirect_stdout(sys.stderr),
    ):  # Ray prints
        ended = (replay_on_ray if on_ray else replay_here)(asked, archives, stop, tell)
    summed = summary(ended, len(archives), time.monotonic() - began)
    if json_:
        sys.stdout.write(json.dumps(summed) + "\n")
    else:
        sys.stderr.write(told(summed))
    if any(progress.faults for progress in ended):
        return FAILED
    return OK if summed["done"] == len(archives) else UNFINISHED
