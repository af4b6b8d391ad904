from __future__ import annotations

from pathlib import Path

import pytest

from space2vec.schemas.errors import ConfigError
from space2vec.stream.config import MASK, explain_settings, load_settings, settings_table
from space2vec.stream.kafka_env import kafka_environment, property_name


def write(folder: Path, text: str, name: str = "space2vec.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_flags_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, '[source]\nbrokers = "file:1"\ngroup = "file"\ntopics = ["file"]\n')
    monkeypatch.setenv("SPACE2VEC_SOURCE__BROKERS", "environment:1")
    monkeypatch.setenv("SPACE2VEC_SOURCE__GROUP", "environment")
    settings = load_settings(file, {"source": {"brokers": "flag:1", "group": None}})
    assert settings.source.brokers == "flag:1"
    assert settings.source.group == "environment"
    assert settings.source.topics == ("file",)
    assert settings.source.start == "earliest"


def test_yaml_says_the_same_as_toml(tmp_path: Path) -> None:
    toml = write(tmp_path, '[source]\ntopics = ["a", "b"]\n[model]\nmax_batch = 32\n')
    yaml = write(tmp_path, "source:\n  topics: [a, b]\nmodel: {max_batch: 32}\n", "space2vec.yaml")
    assert load_settings(toml) == load_settings(yaml)
    assert load_settings(yaml).model.max_batch == 32


def test_a_list_in_the_environment_is_commas_or_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE2VEC_SOURCE__TOPICS", "ztf_a, ^lsst.*")
    assert load_settings().source.topics == ("ztf_a", "^lsst.*")
    monkeypatch.setenv("SPACE2VEC_SOURCE__TOPICS", '["ztf_a", "b"]')
    assert load_settings().source.topics == ("ztf_a", "b")


def test_options_of_file_environment_and_flags_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, '[source.options]\n"fetch.min.bytes" = "1"\n"client.id" = "file"\n')
    monkeypatch.setenv("SPACE2VEC_SOURCE__OPTIONS", '{"client.id": "environment"}')
    settings = load_settings(file, {"source": {"options": {"client.rack": "flag"}}})
    assert settings.source.options == {
        "fetch.min.bytes": "1",
        "client.id": "environment",
        "client.rack": "flag",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sorce]\nbrokers = 'x'\n", "unknown setting sorce; did you mean source?"),
        ("[source]\nbroker = 'x'\n", "unknown setting source.broker; did you mean source.brokers?"),
        ("[source]\nmax_batch = 3\n", "did you mean model.max_batch?"),
        ("source = 3\n", "source: expected a section, found int"),
        ("[source]\nprefetch_bytes = 0\n", "source.prefetch_bytes (from "),
        ("[model]\ndevice = 'tpu'\n", "Input should be 'auto', 'cpu' or 'cuda'"),
        ("[source\n", "space2vec.toml: "),
    ],
)
def test_a_wrong_file_is_named_with_the_place(tmp_path: Path, text: str, expected: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_settings(file)
    assert expected in str(raised.value)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("SPACE2VEC_SORCE__BROKERS", "did you mean SPACE2VEC_SOURCE__BROKERS?"),
        ("SPACE2VEC_SOURCE__BROKER", "did you mean SPACE2VEC_SOURCE__BROKERS?"),
        ("SPACE2VEC_SOURCE_BROKERS", "did you mean SPACE2VEC_SOURCE__BROKERS?"),
        ("SPACE2VEC_NONSENSE", "unknown setting SPACE2VEC_NONSENSE"),
        ("SPACE2VEC_SOURCE", "environment"),
        ("SPACE2VEC_STREAM__MAX_ALERTS", "stream.max_alerts (from environment)"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
    monkeypatch.setenv(variable, "many")
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert expected in str(raised.value)


def test_variables_of_the_development_brokers_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE2VEC_TEST_BROKERS", "localhost:9092")
    assert load_settings().source.group == "space2vec"


def test_a_file_of_another_kind_or_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.toml, \.yaml or \.yml"):
        load_settings(write(tmp_path, "x", "settings.ini"))
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "absent.toml")


def test_secrets_come_from_files_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = write(tmp_path, "hush\n", "secret")
    monkeypatch.setenv("SPACE2VEC_SOURCE__PASSWORD_FILE", str(secret))
    monkeypatch.setenv("SPACE2VEC_SCHEMAS__REGISTRY_PASSWORD_FILE", str(secret))
    settings = load_settings()
    for password in (settings.source.password, settings.schemas.registry_password):
        assert password is not None
        assert password.get_secret_value() == "hush"


def test_a_stronger_source_wins_over_a_weaker_password_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = write(tmp_path, "weak\n", "secret")
    file = write(tmp_path, f'[source]\npassword_file = "{secret}"\n')
    monkeypatch.setenv("SPACE2VEC_SOURCE__PASSWORD", "strong")
    password = load_settings(file).source.password
    assert password is not None
    assert password.get_secret_value() == "strong"


def test_an_unreadable_secret_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE2VEC_SOURCE__PASSWORD_FILE", "/nowhere/secret")
    with pytest.raises(ConfigError, match=r"source\.password_file \(from environment\)"):
        load_settings()


def test_secrets_never_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE2VEC_SOURCE__PASSWORD", "hush-1")
    monkeypatch.setenv(
        "SPACE2VEC_SINK__OPTIONS", '{"sasl.password": "hush-2", "ssl.key.pem": "hush-3", "client.id": "me"}'
    )
    monkeypatch.setenv("SPACE2VEC_SCHEMAS__REGISTRY_URL", "https://me:hush-4@registry.example")
    shown = str(explain_settings()) + repr(load_settings().source)
    assert "hush-1" not in shown
    assert "hush-2" not in shown
    assert "hush-3" not in shown
    assert "hush-4" not in shown
    assert MASK in shown
    assert "client.id=me" in shown


def test_a_wrong_secret_is_not_quoted(tmp_path: Path) -> None:
    file = write(tmp_path, '[source]\npassword = ["hush"]\n')
    with pytest.raises(ConfigError) as raised:
        load_settings(file)
    assert "source.password" in str(raised.value)
    assert "hush" not in str(raised.value)


def test_origins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, '[source]\ngroup = "g"\n')
    monkeypatch.setenv("SPACE2VEC_SOURCE__START", "latest")
    explained = {
        s.name: (s.value, s.origin) for s in explain_settings(file, {"source": {"topics": ("a", "b")}})
    }
    assert explained["source.group"] == ("g", str(file))
    assert explained["source.start"] == ("latest", "environment")
    assert explained["source.topics"] == ("a, b", "flag")
    assert explained["sink.annotated"] == ("{survey}-annotated", "default")


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("KAFKA_SASL_USERNAME", "sasl.username"),
        ("KAFKA_A__B", "a-b"),
        ("KAFKA_A___B", "a_b"),
    ],
)
def test_confluents_rule(variable: str, name: str) -> None:
    assert property_name(variable) == name


def test_kafka_variables_become_options_and_strangers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_HEAP_OPTS": "-Xmx1g",
        "KAFKA_SERVICE_HOST": "10.0.0.1",
        "PATH": "/bin",
    }
    expected = {"source": {"brokers": "kafka:9092", "options": {"sasl.username": "me"}}}
    assert kafka_environment(environ) == expected
    assert kafka_environment({}) == {}
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    assert load_settings().source.brokers == "kafka:9092"
    monkeypatch.setenv("SPACE2VEC_SOURCE__BROKERS", "other:9092")
    assert load_settings().source.brokers == "other:9092"


def test_the_table_tells_every_setting() -> None:
    table = settings_table()
    assert "| `source.brokers` | `localhost:9092` | bootstrap servers, host:port[,host:port...] |" in table
    rows = table.splitlines()[2:]
    assert len(rows) == len(explain_settings())
    assert all(row.split("|")[3].strip() not in ("", "None") for row in rows)
