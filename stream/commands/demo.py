"""``space2vec demo``: the whole path on this machine, and the accounts of it."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cyclopts import App
from cyclopts.types import NonNegativeInt, PositiveInt

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.exit_codes import FAILED, OK
from space2vec.stream.commands.dashboard import serving
from space2vec.stream.commands.flags import Json, Switch
from space2vec.stream.commands.signals import wait_for_the_end

if TYPE_CHECKING:
    from space2vec.schemas.settings import Settings
    from space2vec.stream.demo import Result, Tell

EXAMPLES: Final = """\
Starts a broker of its own (in memory, on this machine only), publishes a
simulated night of ZTF-like and LSST-like alerts with some broken messages
among them, runs the stream application on it, and holds what comes back
against what was published. Fails if an alert is lost or doubled.

Examples:
  space2vec demo
  space2vec demo --page
  space2vec demo --alerts 500 --out /tmp/demo
  space2vec demo --json | jq .lost
"""
FEWEST: Final = 50
_LINE_S = 5.0

app = App(name="demo", help_epilogue=EXAMPLES, help_format="plaintext")


@app.default
def demo(
    *,
    alerts: PositiveInt = 2000,
    out: Path = Path("demo-out"),
    seed: NonNegativeInt = 1,
    page: Switch = False,
    json_: Json = False,
) -> int:
    """See it all run: broker, simulated alerts, classifier, and the accounts.

    Parameters
    ----------
    alerts
        Messages to publish, broken ones included.
    out
        Folder for the contact sheet and the figures.
    seed
        Of the simulated night.
    page
        Show it on a page while it runs (the address is said), and keep page and broker until Ctrl-C.
    json_
        The accounts as one JSON line instead of a table.
    """
    os.environ.setdefault(
        "RAY_LOG_TO_DRIVER", "0"
    )  # before Ray is imported; what its actors log is kept by Ray
    from space2vec.stream.broker_embedded import EmbeddedBroker
    from space2vec.stream.demo import demo_settings, run_demo

    if alerts < FEWEST:
        raise ConfigError(f"--alerts {alerts}: at least {FEWEST}, or there is nothing to see")
    logging.getLogger("space2vec").setLevel(logging.ERROR)  # what goes right is told below
    out.mkdir(parents=True, exist_ok=True)
    with EmbeddedBroker() as broker:
        settings = demo_settings(broker.bootstrap, out / "schemas")
        with _page(settings) if page else nullcontext() as wait:
            with _progress(alerts) as tell:
                result = run_demo(settings, alerts, seed, tell)
            _report(result, out, json_)
            if not page and not json_:
                sys.stdout.write("to look around in it: space2vec demo --page\n")
            if wait is not None:
                wait()
    return OK if balanced(result) else FAILED


@contextmanager
def _page(settings: Settings) -> Iterator[Callable[[], None]]:
    """Serve the page, at its usual port if that is free; gives what waits for Ctrl-C."""
    any_port = settings.dashboard.model_copy(update={"port": 0})
    with ExitStack() as stack:
        try:
            address = stack.enter_context(serving(settings))
        except ConfigError:
            address = stack.enter_context(serving(settings.model_copy(update={"dashboard": any_port})))
        sys.stderr.write(f"the page is at {address}\n")

        def wait() -> None:
            sys.stderr.write(f"look around at {address}; Ctrl-C ends page and broker\n")
            wait_for_the_end()

        yield wait


def _report(result: Result, out: Path, json_: bool) -> None:
    from space2vec.stream.demo_report import grade, sheet, table

    picture = out / "contact-sheet.png"
    sheet(result).save(picture)
    (out / "accounts.json").write_text(_line(result))
    if json_:
        sys.stdout.write(_line(result))
    else:
        sys.stdout.write(
            f"{table(result)}\n{grade(result)}\n{picture}: the best candidates, and the rejected\n"
        )
    sys.stdout.flush()


def balanced(result: Result) -> bool:
    """Tell whether every message published was consumed and answered once."""
    totals = result.totals
    answered = totals.scored + totals.degraded + totals.rejected
    return not totals.lost and not totals.duplicated and totals.consumed == totals.published == answered


def _line(result: Result) -> str:
    return json.dumps(asdict(result.totals)) + "\n"


@contextmanager
def _progress(total: int) -> Iterator[Tell]:
    """Show bars to a person, a line now and then to a log."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        names = ("simulated", "published", "answered")
        tasks = {name: progress.add_task(name, total=total, start=False) for name in names}

        def tell(name: str, done: int, total: int) -> None:
            progress.start_task(tasks[name])
            progress.update(tasks[name], completed=done, total=total)

        yield tell


class _Lines:
    def __init__(self) -> None:
        self._told: dict[str, tuple[int, float]] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        last, at = self._told.get(name, (-1, 0.0))
        now = time.monotonic()
        if done != last and (now - at > _LINE_S or done == total):
            sys.stderr.write(f"{name} {done} of {total}\n")
            self._told[name] = (done, now)
