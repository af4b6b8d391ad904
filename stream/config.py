"""Settings, merged: flags over environment over file over defaults; unknown keys are refused by name.

``SPACE2VEC_SOURCE__BROKERS`` sets ``source.brokers``. Variables of Confluent's kind (``KAFKA_SASL_USERNAME`` for
``sasl.username``) become librdkafka properties of the source's cluster. A secret may always be given as the file
that holds it: ``SPACE2VEC_SOURCE__PASSWORD_FILE``.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, SecretStr, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from space2vec.schemas.errors import ConfigError
from space2vec.schemas.settings import Settings
from space2vec.stream.kafka_env import kafka_environment

PREFIX: Final = "SPACE2VEC_"
NOT_SETTINGS: Final = ("SPACE2VEC_TEST_", "SPACE2VEC_KAFKA_IMAGE")
"""Variables of the development brokers (:mod:`space2vec.stream.brokers`)."""
MASK: Final = "********"
_SECRET_OPTION: Final = re.compile(r"password|secret|pem|token|jaas|oauthbearer\.config")
_USER_INFO: Final = re.compile(r"(?<=://)[^/@]+@")

Tree = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Setting:
    """One merged value, safe to show.

    Attributes
    ----------
    name : str
        Dotted, such as ``source.brokers``.
    value : str
        As text; secrets are stars.
    origin : str
        ``flag``, ``environment``, the file's path, or ``default``.
    """

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class _Layer:
    origin: str
    tree: Tree


_SECTIONS: Final[dict[str, Any]] = {
    name: (field.annotation, field) for name, field in Settings.model_fields.items()
}
_DECLARED: Final[type[BaseSettings]] = create_model("_DECLARED", __base__=BaseSettings, **_SECTIONS)
"""The settings as pydantic-settings wants them declared; never made, only read."""


class _Environment(EnvSettingsSource):
    """``SPACE2VEC_`` variables; lists may be written ``a,b`` as well as in JSON."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if (
            field is not None
            and str(field.annotation).startswith("tuple")
            and not value.lstrip().startswith("[")
        ):
            return [part.strip() for part in value.split(",") if part.strip()]
        return super().decode_complex_value(field_name, field, value)


def load_settings(
    config_file: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> Settings:
    """Merge flags, environment, file and defaults.

    Parameters
    ----------
    config_file : Path, optional
        TOML or YAML (by its suffix).
    overrides : mapping, optional
        Flags, nested as the settings are: ``{"source": {"brokers": "kafka:9092"}}``. ``None`` means not given.

    Raises
    ------
    ConfigError
        Unknown key, wrong value, or unreadable file; the message names the setting and where it came from.
    """
    return _merge(_layers(config_file, overrides or {}))


def explain_settings(
    config_file: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Setting]:
    """Give every merged value with where it came from, secrets masked."""
    layers = _layers(config_file, overrides or {})
    settings = _merge(layers)
    return [
        Setting(f"{section}.{name}", masked(name, value), _origin(layers, section, name))
        for section, name, _ in declared_fields()
        for value in [getattr(getattr(settings, section), name)]
    ]


def masked(name: str, value: object) -> str:
    """Give a setting's value as text that may be shown."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return ", ".join(
            f"{key}={MASK if _SECRET_OPTION.search(key) else text}" for key, text in value.items()
        )
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else _USER_INFO.sub(f"{MASK}@", str(value))


def declared_fields() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield ``(section, name, field)`` of every setting, in order of declaration."""
    for section, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for name, inner in model.model_fields.items():
            yield section, name, inner


def settings_table() -> str:
    """Give the table of all settings in Markdown: name, default, meaning."""
    lines = ["| setting | default | what it is |", "|---|---|---|"]
    for section, name, field in declared_fields():
        default = field.get_default(call_default_factory=True)
        shown = f"`{default}`" if default not in (None, "", (), {}) else ""
        lines.append(f"| `{section}.{name}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def _layers(config_file: Path | None, overrides: Mapping[str, Mapping[str, Any]]) -> list[_Layer]:
    """Give the sources of settings, weakest first, each checked for unknown keys."""
    flags = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in overrides.items()
    }
    layers = [
        *([_Layer(str(config_file), _read_file(config_file))] if config_file else []),
        _Layer("environment", kafka_environment(os.environ)),
        _Layer("environment", _read_environment()),
        _Layer("flag", flags),
    ]
    for layer in layers:
        _check_sections(layer)
        _open_secret_files(layer)
        _check_names(layer)
    return layers


def _read_file(path: Path) -> Tree:
    try:
        text = path.read_text(encoding="utf-8")
        match path.suffix.lower():
            case ".toml":
                tree: object = tomllib.loads(text)
            case ".yaml" | ".yml":
                tree = yaml.safe_load(text) or {}
            case suffix:
                raise ConfigError(f"{path}: {suffix or 'no suffix'}: a settings file is .toml, .yaml or .yml")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as [source], found {type(tree).__name__}")
    return tree


def _read_environment() -> Tree:
    for variable in os.environ:
        section = variable.removeprefix(PREFIX).partition("__")[0].lower()
        ours = variable.startswith(PREFIX) and not variable.startswith(NOT_SETTINGS)
        if ours and section not in Settings.model_fields:
            raise ConfigError(_unknown("environment", variable, section, variable.lower().partition("__")[2]))
    try:
        return _Environment(_DECLARED, env_prefix=PREFIX, env_nested_delimiter="__")()
    except SettingsError as error:
        raise ConfigError(f"environment: {error}: expected JSON") from error


def _open_secret_files(layer: _Layer) -> None:
    """Replace ``x_file`` by the secret ``x`` that the file holds; a secret given beside it wins."""
    for section, name, field in list(declared_fields()):
        values = layer.tree.get(section, {})
        path = values.get(f"{name}_file")
        if "SecretStr" not in str(field.annotation) or path is None:
            continue
        if f"{name}_file" not in _names(section):
            del values[f"{name}_file"]
        try:
            secret = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{section}.{name}_file (from {layer.origin}): {path}: cannot be read"
            ) from error
        values.setdefault(name, secret)


def _check_sections(layer: _Layer) -> None:
    for section, values in layer.tree.items():
        if section not in Settings.model_fields:
            raise ConfigError(_unknown(layer.origin, section, section, ""))
        if not isinstance(values, dict):
            raise ConfigError(f"{layer.origin}: {section}: expected a section, found {type(values).__name__}")


def _check_names(layer: _Layer) -> None:
    for section, values in layer.tree.items():
        for name in values:
            if name not in _names(section):
                shown = (
                    f"{PREFIX}{section}__{name}".upper()
                    if layer.origin == "environment"
                    else f"{section}.{name}"
                )
                raise ConfigError(_unknown(layer.origin, shown, section, name))


def _unknown(origin: str, shown: str, section: str, name: str) -> str:
    known = {f"{s}.{n}": (s, n) for s, n, _ in declared_fields()}
    wanted = f"{section}.{name}" if name else section.replace("_", ".", 1)
    close = difflib.get_close_matches(wanted, known, n=1, cutoff=0.7) if "." in wanted else []
    if not close and name:
        close = [dotted for dotted, (_, other) in known.items() if other == name][:1]
    if not close:
        close = difflib.get_close_matches(section, list(Settings.model_fields), n=1)
    if origin == "environment":
        close = [PREFIX + dotted.replace(".", "__").upper() for dotted in close]
    return f"{origin}: unknown setting {shown}" + (f"; did you mean {close[0]}?" if close else "")


def _names(section: str) -> list[str]:
    return [name for other, name, _ in declared_fields() if other == section]


def _merge(layers: list[_Layer]) -> Settings:
    merged: Tree = {}
    for layer in layers:
        for section, values in layer.tree.items():
            target = merged.setdefault(section, {})
            for name, value in values.items():
                both = isinstance(value, dict) and isinstance(target.get(name), dict)
                target[name] = {**target[name], **value} if both else value
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))} (from {_origin(layers, *map(str, fault['loc'][:2]))}): {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ConfigError("; ".join(faults)) from None


def _origin(layers: list[_Layer], section: str, name: str) -> str:
    return next(
        (layer.origin for layer in reversed(layers) if name in layer.tree.get(section, {})), "default"
    )
