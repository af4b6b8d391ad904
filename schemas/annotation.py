"""The annotation: what we say of one alert, as a record of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from space2vec.schemas.annotation_avro import encode_fields


@dataclass(frozen=True)
class Annotation:
    """What one classifier says of one alert.

    Attributes
    ----------
    classifier, version, sha256 : str
        Which bundle: its name, its version, and the SHA-256 of its manifest (hex).
    score : float
        Probability that the alert is real.
    logit : float
        The same as log-odds, so that a consumer can change the prior.
    spread : float or None
        Standard deviation of the logit over an ensemble; ``None`` for a single network.
    classes : mapping of str to float
        Class label to probability, summing to 1.
    flags : tuple of str
        Quality flags of the stamps; empty when there is nothing to say.
    embedding : tuple of float
        The alert's vector; empty where it is not published.
    classified_at : datetime
        When, UTC.
    class_ids : dict of str to int or None
        Class label to its number in the ELAsTiCC taxonomy; a label left out has none.
    passes : tuple of str
        Operating points of the bundle that the alert passes.
    kinds, causes : dict of str to float
        Probabilities of the kinds of event, were the alert real, and of the causes of an artefact, were it bogus;
        each sums to 1 or is empty.
    """

    classifier: str
    version: str
    sha256: str
    score: float
    logit: float
    spread: float | None
    classes: dict[str, float]
    flags: tuple[str, ...]
    embedding: tuple[float, ...] = field(repr=False)
    classified_at: datetime
    class_ids: dict[str, int | None] = field(default_factory=dict)
    passes: tuple[str, ...] = ()
    kinds: dict[str, float] = field(default_factory=dict)
    causes: dict[str, float] = field(default_factory=dict)

    @cached_property
    def encoded(self) -> dict[str, bytes]:
        """The fields as Avro, in the order of ``schemas/avsc/annotation.avsc``.

        Kept, since the annotated alert and the classification record both consist of them.
        """
        return encode_fields(self)
