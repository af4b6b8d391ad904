"""Every error that space2vec raises on purpose.

::

    Space2vecError
    ├── ConfigError              a setting, flag or file the user gave is wrong       (exit 2)
    ├── KafkaError               broker unreachable, refused, or not as promised      (exit 3)
    ├── ModelError               a model bundle is damaged or does not fit            (exit 4)
    ├── SchemaUnavailable        a writer schema cannot be had *now*: not the packet's fault
    └── PacketError              this packet cannot be scored, with the reason code
        └── StampError           ... because of one of its cutouts
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Why a packet, or a record in it, is rejected: the code in dead letters and metrics."""

    EMPTY = "empty"
    """The message has no bytes."""
    BAD_FRAMING = "bad_framing"
    """Neither an Avro object container nor Confluent framing."""
    TOO_LARGE = "too_large"
    """Larger than the limits allow, or claims to be once inflated."""
    DAMAGED_CONTAINER = "damaged_container"
    """Header, block or sync marker of the Avro container is broken or cut short."""
    UNKNOWN_CODEC = "unknown_codec"
    """The container's compression codec is not one we can read."""
    UNKNOWN_SCHEMA = "unknown_schema"
    """No source of writer schemas knows the id in the Confluent header."""
    BAD_SCHEMA = "bad_schema"
    """The writer schema itself is not valid Avro, even after the known repairs."""
    BAD_RECORD = "bad_record"
    """The record's bytes do not follow the writer schema."""
    TRAILING_BYTES = "trailing_bytes"
    """The record ended before its bytes did: the wrong schema, or damage."""
    UNKNOWN_SURVEY = "unknown_survey"
    """No survey profile matches the record's fields."""
    MISSING_FIELD = "missing_field"
    """A field that the survey profile requires is absent or null."""
    STAMP_MISSING = "stamp_missing"
    """The cutout is absent from the schema, null, or empty."""
    STAMP_NOT_FITS = "stamp_not_fits"
    """The cutout holds something else than FITS (early ZTF packets hold JPEG)."""
    STAMP_DAMAGED = "stamp_damaged"
    """The cutout's gzip or FITS bytes are broken or cut short."""
    STAMP_TOO_LARGE = "stamp_too_large"
    """The cutout claims more pixels or inflates to more bytes than the limits allow."""
    STAMP_BLANK = "stamp_blank"
    """The cutout has no finite pixel, or every pixel is the same: there is nothing to score."""
    SCORING_FAILED = "scoring_failed"
    """The classifier could not score this alert, alone and repeatedly."""
    OUTPUT_REFUSED = "output_refused"
    """The broker refuses the annotated alert for good (larger than its limit, say)."""


class Space2vecError(Exception):
    """Root of the tree."""


class ConfigError(Space2vecError):
    """A setting, flag or file the user gave is wrong."""


class KafkaError(Space2vecError):
    """The broker is unreachable, refuses us, or does not keep what was promised."""


class ModelError(Space2vecError):
    """A model bundle is damaged, does not verify, or does not fit the device."""


class SchemaUnavailable(Space2vecError):
    """A writer schema cannot be had now (registry down); the packet may be fine: try again."""


class PacketError(Space2vecError):
    """A packet, or one record in it, cannot be scored.

    Parameters
    ----------
    reason : Reason
        The code.
    detail : str
        What was found, in words; no packet bytes.
    field : str, optional
        Dotted name of the field at fault.
    survey, alert_id, object_id : optional
        What was known of the alert when it failed.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        field: str | None = None,
        survey: str | None = None,
        alert_id: int | None = None,
        object_id: str | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.field = field
        self.survey = survey
        self.alert_id = alert_id
        self.object_id = object_id

    def detached(self) -> Self:
        """Forget where it was raised, and give it back: for errors that are kept.

        The frames in its traceback hold the packet and all that was decoded of it.
        """
        self.__traceback__ = self.__context__ = None
        return self

    def __str__(self) -> str:
        return (
            f"{self.reason}: {self.field}: {self.detail}" if self.field else f"{self.reason}: {self.detail}"
        )


class StampError(PacketError):
    """A cutout cannot be read; ``field`` names the cutout's field in the packet."""
