"""Survey profiles: where in a survey's alert each thing stands, as data.

A profile is a TOML file. The shipped ones are in ``schemas/surveys``; a user's folder may add others or
replace a shipped one of the same survey. How to write one: docs/adding-a-survey.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from space2vec.schemas.errors import ConfigError, PacketError, Reason
from space2vec.schemas.times import Scale


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Paths = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""Dotted names of fields, the first that is there and not null counts; a lone string will do."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeRule(_Section):
    """When the exposure was."""

    fields: Paths = Field(description="the field that holds the time, in days")
    scale: Scale = Field(description="what it counts: jd or mjd, and on which time scale")
    at: Literal["start", "middle"] = Field("middle", description="the moment of the exposure that it names")
    exposure: Paths = Field((), description="the exposure time in seconds, where the time names its start")
    default_exposure: float = Field(0.0, ge=0, description="the exposure time where no field gives it, s")


class SignRule(_Section):
    """Whether a source is fainter than in the template, and whether its difference stamp was turned over."""

    positive: Paths = Field((), description="true (or t, 1, ...) where the source is brighter")
    negative: Paths = Field((), description="true (or t, 1, ...) where the source is fainter")
    flux: Paths = Field((), description="a flux that is below zero where the source is fainter")
    flipped: Literal["never", "negatives"] = Field(
        "never", description="whether difference stamps are template minus science for negative sources"
    )
    flipped_name: str | None = Field(None, description="part of a flipped difference stamp's file name")
    straight_name: str | None = Field(None, description="part of any other difference stamp's file name")


class DetectorRule(_Section):
    """Where on the detector the source is."""

    x: Paths = Field((), description="column, in pixels")
    y: Paths = Field((), description="row, in pixels")
    first_pixel: float = Field(0.0, description="what the survey calls the centre of the first pixel")


class StampsRule(_Section):
    """The cutouts: bytes, or a record with ``stampData``."""

    science: Paths = ()
    template: Paths = ()
    difference: Paths = ()
    side: int | None = Field(None, gt=0, description="rows and columns of an uncut stamp, if always the same")


class Profile(_Section):
    """One survey's alerts."""

    survey: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="the survey's name")
    detect: tuple[Paths, ...] = Field(
        min_length=1, description="fields that tell its alerts from others'; of a list, any one"
    )
    lacks: tuple[str, ...] = Field((), description="fields that its alerts never have")
    alert_id: Paths = Field(min_length=1, description="identifier of the alert")
    object_id: Paths = Field((), description="identifier of the object")
    ra: Paths = Field((), description="right ascension, degrees")
    dec: Paths = Field((), description="declination, degrees")
    schema_version: Paths = Field((), description="version of the schema, as the packet states it")
    time: TimeRule | None = None
    sign: SignRule = SignRule()
    detector: DetectorRule = DetectorRule()
    stamps: StampsRule

    def missing(self, present: Collection[str]) -> list[str]:
        """Say what in a set of field names speaks against this survey; nothing does if the list is empty."""
        lacking = [" or ".join(any_of) for any_of in self.detect if not any(f in present for f in any_of)]
        return lacking + [f"no {field}" for field in self.lacks if field in present]


class Profiles:
    """The survey profiles in use.

    Parameters
    ----------
    profiles : iterable of Profile
        Of those for the same survey, the last counts.
    """

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._by_survey: Mapping[str, Profile] = {profile.survey: profile for profile in profiles}

    @classmethod
    def load(cls, folder: Path | None = None) -> Self:
        """Read the shipped profiles, and those of a folder beside them.

        Parameters
        ----------
        folder : Path, optional
            Its ``*.toml`` are read; one for a shipped survey takes the place of ours.

        Raises
        ------
        ConfigError
            If the folder or a file in it cannot be read, naming file and key.
        """
        shipped = [f for f in files("space2vec.schemas").joinpath("surveys").iterdir() if _is_toml(f)]
        if folder is not None and not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder of survey profiles")
        own = sorted(folder.glob("*.toml")) if folder is not None else []
        return cls(_read(path) for path in [*sorted(shipped, key=lambda f: f.name), *own])

    def __getitem__(self, survey: str) -> Profile:
        """Give the profile of a survey.

        Raises
        ------
        ConfigError
            If there is none.
        """
        if survey not in self._by_survey:
            raise ConfigError(f"no profile for survey {survey!r}; there are {', '.join(self._by_survey)}")
        return self._by_survey[survey]

    def match(self, present: Collection[str]) -> Profile:
        """Tell the survey from the fields of its alerts; of several that fit, the one that asks for most.

        Parameters
        ----------
        present : collection of str
            Dotted names of all fields in the writer schema.

        Raises
        ------
        PacketError
            ``UNKNOWN_SURVEY``, saying what each profile misses.
        """
        against = {survey: profile.missing(present) for survey, profile in self._by_survey.items()}
        fitting = [self._by_survey[survey] for survey, missing in against.items() if not missing]
        if fitting:
            return max(fitting, key=lambda profile: len(profile.detect) + len(profile.lacks))
        wanting = "; ".join(f"{survey} needs {', '.join(missing)}" for survey, missing in against.items())
        raise PacketError(Reason.UNKNOWN_SURVEY, f"no survey profile fits the fields: {wanting}")


def _is_toml(file: Traversable) -> bool:
    return file.name.endswith(".toml")


def _read(file: Traversable) -> Profile:
    try:
        return Profile.model_validate(tomllib.loads(file.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{file}: {where}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {error}") from None
