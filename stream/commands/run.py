"""``space2vec run``: the service."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import App, Parameter

from space2vec.schemas.exit_codes import OK, UNFINISHED
from space2vec.stream.commands.flags import Config, Json, KafkaFlags, ModelFlags, PacketFlags, Switch
from space2vec.stream.commands.signals import draining_on_signals, reloading_on_hangup

if TYPE_CHECKING:
    from space2vec.schemas.settings import Settings
    from space2vec.stream.summary import Summary

EXAMPLES: Final = """\
SIGTERM and Ctrl-C drain: what is in flight is finished, committed and left
behind in order; a second one ends now. What is not committed then is
answered by whoever joins next. SIGHUP reads the settings and the bundles
that model.bundle, model.also and model.shadow name again, and changes
models without a stop: the new ones serve before the old ones go.

Examples:
  space2vec run -b broker:9092 -t ztf_20261122_programid1 --survey ztf
  space2vec run --config night.toml --workers 4 --classifiers 1 --device cuda
  space2vec run -b localhost:9092 -t lsst-alerts-v11 --until-eof --json
  space2vec run -b broker:9092 -t alerts -X security.protocol=SASL_PLAINTEXT \\
      -X sasl.username=me
"""
_REPORT_S = 60.0

app = App(name="run", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def run(
    *,
    kafka: KafkaFlags | None = None,
    topic: Annotated[tuple[str, ...], Parameter(alias="-t", negative="", show_default=False)] = (),
    group: Annotated[str | None, Parameter(alias="-g")] = None,
    start: str | None = None,
    output_topic: Annotated[str | None, Parameter(alias="-o")] = None,
    output_brokers: str | None = None,
    delivery: Literal["auto", "exactly-once", "at-least-once"] | None = None,
    workers: int | None = None,
    classifiers: int | None = None,
    ray_address: str | None = None,
    metrics_port: int | None = None,
    until_eof: Switch = False,
    max_alerts: int | None = None,
    dry_run: Switch = False,
    config: Config = None,
    packets: PacketFlags | None = None,
    model: ModelFlags | None = None,
    json_: Json = False,
) -> int:
    """Join a consumer group and classify its alerts until told to stop.

    Parameters
    ----------
    topic
        Topic to join; may be repeated; ^regex as in librdkafka.
    group
        Consumer group.
    start
        Where a group without offsets begins: earliest, latest, or a UTC time such as 2026-11-22T03:00+00:00.
    output_topic
        Topic of annotated alerts; {survey} stands for the survey's name.
    output_brokers
        Cluster for the outputs, where it is not the source's.
    delivery
        What to promise; auto is exactly once where the cluster allows it.
    workers
        Stream workers: each decodes its share of the partitions.
    classifiers
        Classifier actors.
    ray_address
        Ray cluster to join; none: start one here.
    metrics_port
        Port of /metrics, /livez and /readyz, on this machine only unless metrics.host says otherwise.
    until_eof
        Stop at the end of every partition.
    max_alerts
        Stop after about so many messages.
    dry_run
        Score, but neither produce nor commit.
    config
        Settings file (TOML or YAML).
    json_
        The final summary as one JSON line.
    """
    from space2vec.stream.app import run_application
    from space2vec.stream.config import load_settings

    overrides: dict[str, dict[str, Any]] = {
        "source": {
            **(kafka or KafkaFlags()).overrides(),
            "topics": topic or None,
            "group": group,
            "start": start,
        },
        "sink": {"brokers": output_brokers, "annotated": output_topic},
        "schemas": dict((packets or PacketFlags()).overrides()),
        "model": dict((model or ModelFlags()).overrides()),
        "ray": {"address": ray_address, "workers": workers, "classifiers": classifiers},
        "stream": {
            "until_eof": until_eof or None,
            "max_alerts": max_alerts,
            "dry_run": dry_run or None,
            "delivery": delivery,
        },
        "metrics": {"port": metrics_port},
    }
    settings = load_settings(config, overrides)
    with (
        draining_on_signals() as stop,
        reloading_on_hangup(lambda: load_settings(config, overrides)) as reload,
        _listening(settings, stop) as note,
    ):
        summary = run_application(settings, stop, note, reload)
    _say(summary, json_)
    return UNFINISHED if summary.unanswered else OK


@contextmanager
def _listening(settings: Settings, stop: Event) -> Iterator[Callable[[Summary], None]]:
    """Give what wants to hear how the run stands: the log, and the metrics' endpoint where there is one."""
    report = _Reporter()
    if settings.metrics.port is None:
        yield report
        return
    from space2vec.stream.health import Endpoint
    from space2vec.workers.bundle import load_bundle

    with Endpoint(settings, load_bundle(settings.model.bundle), stop) as endpoint:

        def note(summary: Summary) -> None:
            report(summary)
            endpoint.note(summary)

        yield note


class _Reporter:
    """A line a minute: the steady state is quiet."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _REPORT_S
        self._alerts = 0

    def __call__(self, summary: Summary) -> None:
        if time.monotonic() < self._next:
            return
        counts = summary.counts
        _log().info(
            "stream",
            alerts=counts.alerts,
            rate=round((counts.alerts - self._alerts) / _REPORT_S, 1),
            degraded=counts.degraded,
            rejected=counts.rejected,
            unanswered=summary.unanswered,
        )
        self._next += _REPORT_S
        self._alerts = counts.alerts


def _say(summary: Summary, as_json: bool) -> None:
    counts = summary.counts
    told = {
        "messages": counts.messages,
        "alerts": counts.alerts,
        "scored": counts.scored,
        "degraded": counts.degraded,
        "rejected": counts.rejected,
        "empty": counts.empty,
        "annotated": counts.annotated,
        "unanswered": summary.unanswered,
        "restarts": summary.restarts,
        "seconds": round(summary.seconds, 1),
        "reasons": dict(counts.reasons),
        "flags": dict(counts.flags),
    }
    if as_json:
        sys.stdout.write(json.dumps(told) + "\n")
    else:
        _log().info("ended", **{name: value for name, value in told.items() if value})


def _log() -> Any:
    import structlog

    return structlog.get_logger()
