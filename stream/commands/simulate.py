"""``space2vec simulate``: alerts of a sky that we know the truth about."""

from __future__ import annotations

import csv
import io
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App
from cyclopts.types import NonNegativeInt, PositiveFloat, PositiveInt

from space2vec.schemas.errors import ConfigError
from space2vec.stream.commands.flags import Config, KafkaFlags

if TYPE_CHECKING:
    from space2vec.stream.simulated import SimulatedAlert

EXAMPLES = """\
Examples:
  space2vec simulate --to '{survey}-alerts' -b localhost:9092 --rate 50
  space2vec simulate --survey ztf --count 1000 --seed 7 --out night.tar.gz
  space2vec simulate --survey lsst --out lsst/
  space2vec score lsst/ --schemas lsst/schemas

LSST packets carry no schema: it is written as 1100.avsc into OUT/schemas, or
where --write-schemas says, and read with --schemas FOLDER. What each alert
truly is goes into the Kafka header "truth", or into truth.csv.
"""

app = App(name="simulate", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def simulate(
    *,
    to: str | None = None,
    out: Path | None = None,
    survey: Literal["ztf", "lsst", "both"] = "both",
    count: PositiveInt = 100,
    rate: PositiveFloat | None = None,
    seed: NonNegativeInt = 1,
    processes: PositiveInt = 1,
    ray_address: str | None = None,
    write_schemas: Path | None = None,
    kafka: KafkaFlags | None = None,
    config: Config = None,
) -> None:
    """Publish simulated alerts to Kafka, or write them to files.

    Parameters
    ----------
    to
        Topic to publish to; {survey} in it becomes ztf or lsst. Made if it is not there.
    out
        Folder, .tar or .tar.gz to write to instead.
    survey
        Whose packets: ZTF's Avro containers, LSST's Confluent framing, or half of each.
    count
        How many alerts.
    rate
        Alerts per second at most; as fast as they come by default.
    seed
        The same seed gives the same alerts.
    processes
        Processes that simulate: 1 is this one, more are on a Ray started here.
    ray_address
        Ray cluster to join, which simulates on all its CPUs instead; none: --processes here.
    write_schemas
        Folder for the writer schema of the LSST packets.
    config
        Settings file, TOML or YAML; its source is the cluster published to.
    """
    from space2vec.stream.publish import paced
    from space2vec.stream.simulated import simulated_alerts
    from space2vec.training.simulate import simulators

    if (to is None) == (out is None):
        raise ConfigError("give either --to TOPIC or --out FOLDER")
    if out is not None and write_schemas is None and not _is_archive(out):
        write_schemas = out / "schemas"
    if survey != "ztf" and write_schemas is not None:
        _write_schemas(write_schemas)
    began = time.monotonic()
    with simulators(processes, ray_address) as at_once, _progress(count) as advance:
        alerts = paced(simulated_alerts(survey, count, seed, at_once), rate)
        if out is not None:
            (_write_archive if _is_archive(out) else _write_folder)(out, _told(alerts, advance))
        else:
            assert to is not None
            _publish(to, _told(alerts, advance), kafka or KafkaFlags(), config)
    sys.stderr.write(f"{count} alerts to {out or to} in {time.monotonic() - began:.1f} s\n")


def _publish(to: str, alerts: Iterable[SimulatedAlert], kafka: KafkaFlags, config: Path | None) -> None:
    from space2vec.schemas.settings import SinkSettings
    from space2vec.stream.config import load_settings
    from space2vec.stream.kafka_config import admin_properties
    from space2vec.stream.output_topics import OutputTopics
    from space2vec.stream.publish import Publisher

    properties = admin_properties(load_settings(config, {"source": kafka.overrides()}).source)
    topics, publisher = OutputTopics(properties, SinkSettings()), Publisher(properties)
    for alert in alerts:
        topic = to.replace("{survey}", alert.survey)
        topics.ensure(topic)
        publisher.send(topic, alert.object_id, alert.packet, {"survey": alert.survey, "truth": alert.truth()})
    publisher.close()


def _write_folder(out: Path, alerts: Iterable[SimulatedAlert]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    table = _Truth()
    for alert in alerts:
        (out / table.add(alert)).write_bytes(alert.packet)
    (out / "truth.csv").write_text(table.text())


def _write_archive(out: Path, alerts: Iterable[SimulatedAlert]) -> None:
    table = _Truth()
    with tarfile.open(out, "w" if out.suffix == ".tar" else "w:gz") as archive:
        for alert in alerts:
            _add(archive, table.add(alert), alert.packet)
        _add(archive, "truth.csv", table.text().encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class _Truth:
    """What each file truly holds, as CSV."""

    def __init__(self) -> None:
        self._text = io.StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(("file", "survey", "alert_id", "object_id", "real", "kind", "cause", "snr"))

    def add(self, alert: SimulatedAlert) -> str:
        """Note an alert and give its file's name."""
        name = f"{alert.survey}-{alert.alert_id}.avro"
        told = (alert.survey, alert.alert_id, alert.object_id, int(alert.real), alert.kind, alert.cause)
        self._writer.writerow((name, *told, f"{alert.snr:.2f}"))
        return name

    def text(self) -> str:
        return self._text.getvalue()


def _write_schemas(folder: Path) -> None:
    from space2vec.stream.simulated import writer_schema_files

    folder.mkdir(parents=True, exist_ok=True)
    for name, text in writer_schema_files().items():
        (folder / name).write_text(text)


def _is_archive(path: Path) -> bool:
    return path.name.endswith((".tar", ".tar.gz", ".tgz"))


def _told(alerts: Iterable[SimulatedAlert], advance: Callable[[], None]) -> Iterator[SimulatedAlert]:
    for alert in alerts:
        yield alert
        advance()


@contextmanager
def _progress(count: int) -> Iterator[Callable[[], None]]:
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("alerts", total=count)
        yield lambda: progress.advance(task)
