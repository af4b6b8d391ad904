"""The manifest of a model bundle: everything that decides a score, except the weights.

``docs/bring-a-bundle.md`` tells the same field by field.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from space2vec.schemas.alert import Plane
from space2vec.schemas.errors import ModelError

MAX_MANIFEST_BYTES = 1 << 20

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Label = Annotated[str, Field(min_length=1, max_length=100)]
Survey = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Statistic = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,63}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


GRAPH: Final = "graph"
"""The architecture of a bundle that has nothing but its ONNX graph, and runs on CPUs."""


class Architecture(_Part):
    """Which network: what ``space2vec.workers.networks`` needs to build it before the weights go in; or ``graph``."""

    kind: str = Field(min_length=1, max_length=100, description="name of the architecture")
    parameters: dict[str, JsonValue] = Field(default_factory=dict, description="its parameters, by name")


class Normalisation(_Part):
    """How pixel values become network inputs, each plane by itself.

    ``median_mad_arcsinh`` is ``clip(arcsinh((p - median) / noise / softening))``, the noise being 1.4826 times the
    median absolute deviation; ``l2`` divides by the root of the sum of squares; ``none`` leaves values as they are. Over
    all finite pixels of the whole stamp, whatever part of it the network sees.
    """

    kind: Literal["median_mad_arcsinh", "l2", "none"] = "median_mad_arcsinh"
    softening: float = Field(
        3.0, gt=0, le=1e6, description="noise levels at which arcsinh bends; of median_mad_arcsinh"
    )
    clip: float = Field(
        8.0, gt=0, le=100, description="largest magnitude of a normalised value; of median_mad_arcsinh"
    )


class InputSpec(_Part):
    """What the network is fed: ``(N, len(planes), size, size)`` float32."""

    size: int = Field(ge=8, le=256, description="side S of the canvas, in pixels")
    planes: tuple[Plane, ...] = Field(
        (Plane.SCIENCE, Plane.TEMPLATE, Plane.DIFFERENCE), description="planes, in the network's order"
    )
    required: tuple[Plane, ...] = Field(
        (Plane.SCIENCE, Plane.DIFFERENCE), description="planes without which an alert is not scored"
    )
    centre: Literal["source"] = Field("source", description="what lies at pixel (S//2, S//2)")
    padding: Literal["zero"] = Field("zero", description="normalised value outside the stamp")
    missing_pixel: Literal["zero", "interpolated"] = Field(
        "zero",
        description="normalised value of a pixel that is not finite; interpolated where its gap is short, else zero",
    )
    missing_plane: Literal["zero"] = Field("zero", description="normalised value of a plane that is absent")
    sign: Literal["positive"] = Field(
        "positive", description="the difference is turned so that the detected source is positive in it"
    )
    normalisation: Normalisation = Normalisation()

    @model_validator(mode="after")
    def _planes_agree(self) -> Self:
        if not self.planes or len(set(self.planes)) != len(self.planes):
            raise ValueError("planes must be one or more, each named once")
        if not set(self.required) <= set(self.planes):
            raise ValueError("required planes must be among planes")
        if not self.required:
            raise ValueError("at least one plane must be required")
        return self


class Outputs(_Part):
    """What the network returns: a logit and an embedding per alert; where so said, scores of kinds and causes, a spread."""

    logit: Literal["log_odds"] = Field(
        "log_odds", description="log-odds of the first class, before temperature"
    )
    embedding: int = Field(0, ge=0, le=65536, description="dimension D of the embedding; 0 for none")
    kinds: tuple[Label, ...] = Field((), max_length=1000, description="kinds a real alert can be of")
    causes: tuple[Label, ...] = Field((), max_length=1000, description="causes a bogus one can have")
    spread: bool = Field(
        False, description="whether it also gives the standard deviation of its members' logits"
    )

    @property
    def groups(self) -> int:
        """How many kinds and causes there are: columns of the network's output ``groups``, kinds first."""
        return len(self.kinds) + len(self.causes)

    @property
    def names(self) -> list[str]:
        """Names of the graph's outputs, in order."""
        return [
            "logit",
            "embedding",
            *(["groups"] if self.groups else []),
            *(["spread"] if self.spread else []),
        ]

    def shape(self, name: str, count: int) -> tuple[int, ...]:
        """Shape of one of these outputs for ``count`` stamps."""
        columns = {"embedding": self.embedding, "groups": self.groups}
        return (count, columns[name]) if name in columns else (count,)


class Calibration(_Part):
    """Temperature scaling (Guo et al. 2017, arXiv:1706.04599): the published logit is ``logit / temperature``."""

    temperature: float = Field(1.0, gt=0, le=1000)


class Counted(_Part):
    """How many alerts had a value in each bin: up to and with the first bound, the second, and so on, and above the last."""

    bounds: tuple[float, ...] = Field(max_length=100, description="rising")
    counts: tuple[Annotated[int, Field(ge=0, lt=2**53)], ...] = Field(description="one more than bounds")

    @model_validator(mode="after")
    def _bins_agree(self) -> Self:
        if any(low >= high for low, high in pairwise(self.bounds)):
            raise ValueError("bounds must rise")
        if len(self.counts) != len(self.bounds) + 1 or not sum(self.counts):
            raise ValueError("there must be one count more than bounds, and not all of them 0")
        return self


class Manifest(_Part):
    """``manifest.json`` of a bundle."""

    format: Literal["space2vec-bundle/1"] = "space2vec-bundle/1"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="name of the classifier")
    version: str = Field(
        pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}$", description="version of the classifier"
    )
    description: str = Field("", max_length=2000)
    architecture: Architecture
    input: InputSpec
    outputs: Outputs = Outputs()
    classes: tuple[str, str] = Field(
        ("real", "bogus"), description="labels: of the class that the logit is for, and of the other"
    )
    class_ids: tuple[int | None, int | None] = Field(
        (None, None), description="ids of the two classes in the ELAsTiCC taxonomy, where they have one"
    )
    calibration: Calibration = Calibration()
    operating_points: dict[Label, float] = Field(
        default_factory=dict, description="published logits from which on an alert passes, by name"
    )
    weights: FileName = Field("weights.safetensors", description="state of the network")
    graph: FileName = Field("network.onnx", description="the same network as an ONNX graph")
    golden: FileName = Field("golden.safetensors", description="stamps and what must come out for them")
    files: dict[FileName, Sha256] = Field(default_factory=dict, description="SHA-256 of every file")
    training: dict[str, JsonValue] = Field(default_factory=dict, description="how the weights came about")
    reference: dict[Survey, dict[Statistic, Counted]] = Field(
        default_factory=dict,
        description="per survey, the alerts that later ones are held against to see drift",
    )

    @model_validator(mode="after")
    def _files_listed(self) -> Self:
        names = [self.graph, self.golden, *([] if self.architecture.kind == GRAPH else [self.weights])]
        named = set(names)
        if len(named) != len(names):
            raise ValueError("weights, graph and golden must be files of their own")
        if self.files and set(self.files) != named:
            raise ValueError(f"files must list exactly {', '.join(sorted(named))}")
        if self.classes[0] == self.classes[1]:
            raise ValueError("the two classes need different labels")
        return self

    def to_json(self) -> bytes:
        """Give the bytes of ``manifest.json``: indented, keys in declared order, one newline at the end."""
        return self.model_dump_json(indent=2).encode() + b"\n"


def parse_manifest(content: bytes, where: str, *, draft: bool = False) -> Manifest:
    """Read a manifest.

    Parameters
    ----------
    content : bytes
        JSON text.
    where : str
        What to call it in errors.
    draft : bool
        Whether its files need not be listed yet.

    Raises
    ------
    ModelError
        If it is too large, is not JSON, has unknown or missing keys, or does not list its files.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ModelError(f"{where}: larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = Manifest.model_validate_json(content, strict=False)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'manifest'}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)[:5]
        )
        raise ModelError(f"{where}: {faults}") from error
    if not (manifest.files or draft):
        raise ModelError(f"{where}: files: lists no file")
    return manifest
