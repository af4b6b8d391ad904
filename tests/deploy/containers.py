"""deploy/compose.yaml for real: broker, simulated night, space2vec and Prometheus as containers; killed in the middle.

Not collected by `make test`: it needs a Docker engine and the images that deploy/containers/images.sh makes. Run it with
`make containers`. Grafana is left out: its image has to be pulled.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from composing import DEPLOY, compose_command, compose_file

from space2vec.stream.broker_common import free_ports

ALERTS, RATE = 3000, 50
STARTED = ("kafka", "first-light", "space2vec", "page", "prometheus")  # the night begins once they are ready
IMAGES = {
    "SPACE2VEC_IMAGE": "space2vec:cpu",
    "KAFKA_IMAGE": "space2vec-kafka",
    "PROMETHEUS_IMAGE": "space2vec-prometheus",
}
PORTS = dict(
    zip(("KAFKA_PORT", "METRICS_PORT", "PAGE_PORT", "PROMETHEUS_PORT"), map(str, free_ports(4)), strict=True)
)
SERVICE = f"http://127.0.0.1:{PORTS['METRICS_PORT']}"

pytestmark = pytest.mark.timeout(600)


class Stack:
    """The containers of one project."""

    def __init__(self, folder: Path) -> None:
        self.environment = os.environ | IMAGES | PORTS | {"ALERTS": str(ALERTS), "RATE": str(RATE)}
        command = compose_command()
        assert command is not None, "no Docker Compose: deploy/containers/trial.sh installs it on Debian"
        file = compose_file(command, folder)
        self._compose = [
            *command,
            *("--project-name", f"space2vec-trial-{os.getpid()}"),
            *("--project-directory", str(DEPLOY), "-f", str(file)),
        ]
        self.began_at = 0.0

    def compose(self, *arguments: str, check: bool = True) -> str:
        command = [*self._compose, *arguments]
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def container(self, service: str) -> str:
        return self.compose("ps", "-a", "-q", service).strip()

    def state(self, service: str) -> dict[str, Any]:
        """What the engine says of a service's container."""
        state: dict[str, Any] = json.loads(
            docker("inspect", "--format", "{{json .State}}", self.container(service))
        )
        return state

    def took(self, service: str) -> str:
        """When a service started and ended, in seconds after the beginning."""
        state = self.state(service)
        times = (
            datetime.fromisoformat(state[name]).timestamp() - self.began_at
            for name in ("StartedAt", "FinishedAt")
        )
        return f"{service} {' to '.join(f'{time:.0f}' for time in times if time > 0)}"


def docker(*arguments: str, both: bool = False) -> str:
    """What the engine's client says: on stdout, or on both streams."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"docker {arguments}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr * both


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def metric(name: str) -> float:
    """The sum of a metric of ours over its labels; 0 while it cannot be had."""
    status, text = get(f"{SERVICE}/metrics")
    samples = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE) if status == 200 else []
    return sum(map(float, samples))


def await_that(holds: Callable[[], bool], deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, f"not so after {deadline_s:g} s"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Everything up; taken down, volumes and all, at the end. What it logged is told where a test failed."""
    stack = Stack(tmp_path_factory.mktemp("compose"))
    before = request.session.testsfailed
    try:
        stack.began_at = time.time()
        stack.compose("up", "-d", *STARTED)
        yield stack
    finally:
        if request.session.testsfailed > before:
            print(stack.compose("logs", "--tail", "40", check=False))  # noqa: T201 - to look at
        stack.compose("down", "--volumes", "--timeout", "5", check=False)


def test_alerts_are_annotated_soon_and_the_service_says_it_is_ready(stack: Stack) -> None:
    await_that(lambda: metric("space2vec_alerts_published_total") > 0, 240)
    took, load = time.time() - stack.began_at, os.getloadavg()[0]
    ran = ", ".join(stack.took(service) for service in STARTED[:3])
    print(f"annotated alerts {took:.0f} s after `compose up` (load average {load:.1f}); {ran}")  # noqa: T201 - to look at
    await_that(lambda: get(f"{SERVICE}/readyz")[0] == 200, 30)
    await_that(lambda: stack.state("space2vec")["Health"]["Status"] == "healthy", 60)
    lines = docker("logs", stack.container("space2vec"), both=True).splitlines()
    assert "delivery" in {json.loads(line)["event"] for line in lines}  # the actors' lines are JSON, too
    assert [line for line in lines if json.loads(line)["level"] != "info"] == []


def test_it_runs_without_privileges_and_without_torch(stack: Stack) -> None:
    container = stack.container("space2vec")
    assert docker("exec", container, "id", "-u").strip() == "10001"
    written = subprocess.run(
        ["docker", "exec", container, "touch", "/opt/space2vec/x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Read-only file system" in written.stderr
    versions = json.loads(docker("exec", container, "space2vec", "version", "--json"))
    assert versions["torch"] is None
    assert versions["space2vec"]


def test_the_page_shows_the_night_to_who_has_the_token(stack: Stack) -> None:
    page = f"http://127.0.0.1:{PORTS['PAGE_PORT']}"
    token = {"Authorization": "Bearer only-on-this-machine"}
    await_that(lambda: get(f"{page}/")[0] == 401, 30)
    await_that(lambda: json.loads(get(f"{page}/api/alerts", token)[1])["alerts"] != [], 60)
    alert = json.loads(get(f"{page}/api/alerts", token)[1])["alerts"][0]
    assert alert["survey"] in ("ztf", "lsst")
    assert alert["kind"]


def test_prometheus_scrapes_it_and_loads_every_rule(stack: Stack) -> None:
    api = f"http://127.0.0.1:{PORTS['PROMETHEUS_PORT']}/api/v1"

    def up() -> bool:
        status, text = get(f"{api}/query?query=up")
        return status == 200 and [s["value"][1] for s in json.loads(text)["data"]["result"]] == ["1"]

    await_that(up, 60)
    groups = json.loads(get(f"{api}/rules")[1])["data"]["groups"]
    written = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text())["groups"]
    assert sum(len(g["rules"]) for g in groups) == sum(len(g["rules"]) for g in written) > 0
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {
        "ok",
        "unknown",
    }  # not yet evaluated


def test_its_broker_restarted_and_itself_killed_in_the_middle_nothing_is_lost_or_doubled(
    stack: Stack,
) -> None:
    stack.compose("up", "-d", "--no-deps", "night")
    await_that(lambda: metric("space2vec_alerts_published_total") > ALERTS / 10, 120)
    stack.compose("restart", "--timeout", "20", "kafka")
    assert stack.state("night")["Running"], "the night was over too soon to break anything in its middle"
    published = metric("space2vec_alerts_published_total")
    await_that(lambda: metric("space2vec_alerts_published_total") > published, 120)
    # As a crash would: the process under the container's init, which ends with it; the engine starts it again.
    docker("exec", stack.container("space2vec"), "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
    await_that(lambda: restarts(stack) == 1, 60)
    await_that(lambda: stack.state("night")["Status"] == "exited", 240)
    assert stack.state("night")["ExitCode"] == 0
    await_that(lambda: get(f"{SERVICE}/readyz")[0] == 200 and caught_up(), 240)
    account = json.loads(stack.compose("run", "--rm", "-T", "--no-deps", "space2vec", "audit", "--json"))
    print({name: account[name] for name in ("balanced", "messages", "lost", "duplicated")})  # noqa: T201 - to look at
    assert account["balanced"] is True
    assert (account["lost"], account["duplicated"]) == (0, 0)
    assert account["messages"] == ALERTS + 2  # first light's two


def restarts(stack: Stack) -> int:
    return int(docker("inspect", "--format", "{{.RestartCount}}", stack.container("space2vec")))


def caught_up() -> bool:
    text = get(f"{SERVICE}/metrics")[1]
    return "space2vec_consumer_lag_alerts{" in text and metric("space2vec_consumer_lag_alerts") == 0


def test_it_drains_when_stopped(stack: Stack) -> None:
    stack.compose("stop", "space2vec")
    state = stack.state("space2vec")
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
