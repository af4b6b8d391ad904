"""The compose files: valid, bound to this machine, pinned, hardened, and what they set is what the code takes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from composing import DEPLOY, compose_command, compose_file

from space2vec.stream.broker_jars import KAFKA_VERSION
from space2vec.stream.cli import app
from space2vec.stream.config import load_settings
from space2vec.stream.dashboard.access import SHORTEST_TOKEN

COMPOSE, GPU = DEPLOY / "compose.yaml", DEPLOY / "compose.gpu.yaml"
OURS = ("first-light", "night", "space2vec", "page")

_VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")


def composed(path: Path = COMPOSE) -> dict[str, Any]:
    """What a compose file says, with every variable at its default."""
    services: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(r"\1", path.read_text()))["services"]
    return services


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_the_compose_specification_holds(path: Path) -> None:
    check = pytest.importorskip("check_jsonschema", reason="no check-jsonschema: compose files not validated")
    assert check.main(["--builtin-schema", "vendor.compose-spec", str(path)], standalone_mode=False) in (
        0,
        None,
    )


@pytest.mark.parametrize("service", composed())
def test_every_service_is_pinned_and_bound_to_this_machine(service: str) -> None:
    told = composed()[service]
    assert all(port.startswith("127.0.0.1:") for port in told.get("ports", ()))
    image = told["image"]
    assert image.startswith("space2vec:") or re.search(r":v?\d+\.\d+\.\d+$", image), image


@pytest.mark.parametrize("service", sorted(set(composed()) - {"kafka"}))
def test_everything_but_the_broker_runs_without_privileges(service: str) -> None:
    told = composed()[service]
    assert told["read_only"] is True
    assert told["cap_drop"] == ["ALL"]
    assert told["security_opt"] == ["no-new-privileges:true"]


def test_the_broker_is_the_version_that_the_tests_use_and_is_waited_for() -> None:
    services = composed()
    assert services["kafka"]["image"].endswith(f":{KAFKA_VERSION}")
    assert services["kafka"]["healthcheck"]
    assert services["space2vec"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    for service in ("night", "space2vec"):  # topics and schemas are there before anyone needs them
        assert services[service]["depends_on"]["first-light"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("path", [COMPOSE, GPU], ids=lambda path: path.name)
def test_the_environment_is_settings(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in composed(path)["space2vec"]["environment"].items():
        monkeypatch.setenv(name, str(value))
    settings = load_settings()
    if path == COMPOSE:
        token = composed()["page"]["environment"]["SPACE2VEC_DASHBOARD__TOKEN"]
        assert len(token) >= SHORTEST_TOKEN
        assert token in COMPOSE.read_text().split("services:")[0], (
            "the address at its top is the one that works"
        )
        assert settings.source.topics == ("ztf-alerts", "lsst-alerts")
        assert settings.source.brokers == "kafka:19092"
        grace = int(composed()["space2vec"]["stop_grace_period"].removesuffix("s"))
        assert grace > settings.stream.drain_s + 5
    else:
        assert (settings.model.device, settings.ray.gpus_per_classifier) == ("cuda", 1)


@pytest.mark.parametrize("service", OURS)
def test_the_commands_are_ours(service: str) -> None:
    app.parse_args(composed()[service]["command"], exit_on_error=False, print_error=False)


def test_what_the_image_sets_is_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    for name, value in re.findall(r"(SPACE2VEC_\w+)=(\S+)", text):
        monkeypatch.setenv(name, value)
    metrics = load_settings().metrics
    assert (metrics.host, metrics.port) == ("0.0.0.0", 9108)
    assert f"EXPOSE {metrics.port}" in text
    assert f"127.0.0.1:{metrics.port}/readyz" in text
    assert yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"][0][
        "static_configs"
    ] == [{"targets": [f"space2vec:{metrics.port}"]}]


def test_the_image_is_built_from_files_that_are_there_and_runs_as_nobody_special() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    root = DEPLOY.parent
    allowed = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()
    ]
    assert copied
    for name in copied:
        assert (root / name).exists(), name
        assert name in allowed, name
    assert set(re.findall(r"^USER (.+)$", text, re.MULTILINE)) == {"10001:10001"}
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE)[0] == "${BASE_IMAGE}"
    targets = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    assert {"cpu", "cuda"} <= set(targets)


def test_compose_itself_takes_the_files_together(tmp_path: Path) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("no Docker Compose on the path: its own merging of the files not tried")
    files = ("-f", compose_file(command, tmp_path), "-f", GPU)
    done = subprocess.run(
        [*command, "--project-directory", DEPLOY, *files, "config"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    service = yaml.safe_load(done.stdout)["services"]["space2vec"]
    assert service["build"]["target"] == "cuda"
    assert service["image"] == "space2vec:cuda"
    assert service["environment"]["SPACE2VEC_SOURCE__BROKERS"] == "kafka:19092"
    assert service["environment"]["SPACE2VEC_MODEL__DEVICE"] == "cuda"
    assert service["read_only"] is True
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
