from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from space2vec.schemas.errors import ConfigError, KafkaError, ModelError, SchemaUnavailable
from space2vec.schemas.exit_codes import FAILED, INTERRUPTED, KAFKA, MODEL, OK, USAGE
from space2vec.stream.checks import Finding, State
from space2vec.stream.cli import VERBS, run_command

Capture = pytest.CaptureFixture[str]


def breaking(error: BaseException) -> type:
    class App:
        def meta(self, *_: object, **__: object) -> None:
            raise error

    return App


def test_every_verb_is_in_the_help(capsys: Capture) -> None:
    assert run_command(["--help"]) == OK
    told = capsys.readouterr().out
    for verb in VERBS:
        assert verb in told
    assert "Exit status" in told


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_with_an_example(verb: str, capsys: Capture) -> None:
    assert run_command([verb, "--help"]) == OK
    told = capsys.readouterr().out
    assert f"space2vec {verb}" in told.partition("Examples:")[2]


def test_the_help_needs_no_torch_no_ray_no_kafka() -> None:
    code = (
        "import sys; from space2vec.stream.cli import run_command; run_command(['--help']);"
        "sys.exit(','.join({'torch', 'ray', 'confluent_kafka', 'numpy', 'onnxruntime'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version(capsys: Capture) -> None:
    assert run_command(["--version"]) == OK
    assert capsys.readouterr().out.startswith("space2vec ")
    assert run_command(["version", "--json"]) == OK
    versions = json.loads(capsys.readouterr().out)
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["ray"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scor"], "score"),
        (["score", "--jsn", "x"], "unknown option --jsn"),
        (["simulate", "--surve", "ztf"], "--survey"),
        (["score"], "PATH"),
        (["score", "/nowhere/at/all"], "/nowhere/at/all: no such file or folder"),
        (["score", ".", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["simulate"], "--to TOPIC or --out FOLDER"),
        (["simulate", "--out", "x", "--count", "0"], "--count"),
        (["simulate", "--to", "x", "-X", "nonsense"], "key=value"),
        (["version", "--device", "tpu"], "--device"),
    ],
)
def test_wrong_usage_is_one_line_and_2(arguments: list[str], said: str, capsys: Capture) -> None:
    assert run_command(arguments) == USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "Traceback" not in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("wrong"), USAGE),
        (KafkaError("away"), KAFKA),
        (ModelError("broken"), MODEL),
        (SchemaUnavailable("down"), MODEL),
        (RuntimeError("odd"), FAILED),
        (ModuleNotFoundError("scipy", name="scipy"), USAGE),
        (KeyboardInterrupt(), INTERRUPTED),
        (BrokenPipeError(), OK),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    monkeypatch.setattr("space2vec.stream.cli.app", breaking(error)())
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert run_command(["run"]) == status
    told = capfd.readouterr().err
    assert "Traceback" not in told
    assert str(error) in told


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("space2vec.stream.cli.app", breaking(KafkaError("away"))())
    with pytest.raises(KafkaError):
        run_command(["run", "--debug"])


def test_errors_come_with_a_hint(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("space2vec.stream.cli.app", breaking(KafkaError("away"))())
    run_command(["run"])
    assert "space2vec doctor" in capsys.readouterr().err


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    command = f"{sys.executable} -m space2vec.stream version | true"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_secrets_stay_out_of_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "s.toml"
    settings.write_text(
        '[source]\nbrokers = "localhost:1"\nusername = "me"\n[source.options]\n"ssl.key.password" = "hush-2"\n'
    )
    monkeypatch.setenv("SPACE2VEC_SOURCE__PASSWORD", "hush-1")
    monkeypatch.setattr("space2vec.stream.checks.PATIENCE_S", 1.0)
    monkeypatch.setattr("space2vec.stream.checks._ray", lambda _: Finding("ray", State.OK, "left out"))
    run_command(["doctor", "--config", str(settings)])
    told = capfd.readouterr()
    assert "source.password = ********" in told.out
    assert "hush" not in told.out + told.err


def test_model_verify(capsys: Capture) -> None:
    assert run_command(["model", "verify", "--json", "--device", "cpu"]) == OK
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert len(told["sha256"]) == 64
    assert any("logits" in check["name"] for check in told["checks"])


def test_model_verify_of_a_damaged_bundle(tmp_path: Path, capsys: Capture) -> None:
    import shutil

    from space2vec.workers.bundle import load_bundle

    bundle = load_bundle("core")
    copy = shutil.copytree(bundle.path, tmp_path / "copy")
    weights = copy / bundle.manifest.weights
    weights.chmod(0o600)
    weights.write_bytes(weights.read_bytes() + b"x")
    assert run_command(["model", "verify", str(copy)]) == MODEL
    assert str(weights) in capsys.readouterr().err


def test_a_hangup_reads_the_settings_again_and_wrong_ones_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from space2vec.stream.commands.signals import reloading_on_hangup
    from space2vec.stream.config import load_settings

    file = tmp_path / "night.toml"
    file.write_text("[model]\nbundle = 'first'\n")
    before = signal.getsignal(signal.SIGHUP)
    with reloading_on_hangup(lambda: load_settings(file)) as reload:
        assert reload() is None
        file.write_text("[model]\nbundle = 'second'\nshadow = 'third'\n")
        assert reload() is None
        signal.raise_signal(signal.SIGHUP)
        told = reload()
        assert told is not None
        assert (told.model.bundle, told.model.shadow) == ("second", "third")
        assert reload() is None
        file.write_text("[model]\nbundel = 'second'\n")
        signal.raise_signal(signal.SIGHUP)
        assert reload() is None
        assert "did you mean model.bundle" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGHUP) is before
