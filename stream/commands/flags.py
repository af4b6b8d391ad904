"""Flags that several verbs share, spelled the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from space2vec.schemas.errors import ConfigError

Switch = Annotated[bool, Parameter(negative="", show_default=False)]
Json = Annotated[bool, Parameter("--json", negative="", show_default=False)]
Config = Annotated[Path | None, Parameter("--config")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class PacketFlags:
    """How packets are read.

    Attributes
    ----------
    schemas
        Folder of writer schemas named <id>.avsc, for packets in Confluent framing (Rubin's).
    registry
        URL of a Confluent schema registry; asked when neither the folder nor lsst-alert-packet has the schema.
    profiles
        Folder of survey profiles (TOML) beside the shipped ones.
    survey
        Take every packet to be of this survey.
    """

    schemas: Path | None = None
    registry: str | None = None
    profiles: Path | None = None
    survey: str | None = None

    def overrides(self) -> Mapping[str, Any]:
        """Give the flags as overrides of the settings' ``schemas`` section."""
        return {
            "folder": self.schemas,
            "registry_url": self.registry,
            "profiles": self.profiles,
            "survey": self.survey,
        }


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """What scores.

    Attributes
    ----------
    model
        A shipped bundle's name, or a bundle's folder.
    device
        Where the network runs.
    threads
        CPU threads of the network.
    """

    model: str | None = None
    device: Literal["auto", "cpu", "cuda"] | None = None
    threads: int | None = None

    def overrides(self) -> Mapping[str, Any]:
        """Give the flags as overrides of the settings' ``model`` section."""
        return {"bundle": self.model, "device": self.device, "threads": self.threads}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class KafkaFlags:
    """How to reach a cluster.

    Attributes
    ----------
    brokers
        Bootstrap servers, host:port[,host:port...].
    option
        Any librdkafka property, key=value; repeatable.
    """

    brokers: Annotated[str | None, Parameter(alias="-b")] = None
    option: Annotated[tuple[str, ...], Parameter(alias="-X", negative_iterable=(), show_default=False)] = ()

    def overrides(self) -> Mapping[str, Any]:
        """Give the flags as overrides of a cluster's section.

        Raises
        ------
        ConfigError
            If an option is not of the form ``key=value``.
        """
        options = {}
        for option in self.option:
            name, equals, value = option.partition("=")
            if not equals:
                raise ConfigError(f"-X {option}: expected key=value")
            options[name.strip()] = value
        return {"brokers": self.brokers, "options": options or None}


def milliseconds(moment: datetime | None) -> int | None:
    """Give a time in milliseconds since 1970; UTC is meant where no zone is given."""
    if moment is None:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
