"""The networks that a bundle may name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn

from space2vec.schemas.errors import ModelError
from space2vec.workers.manifest import Architecture, InputSpec, Outputs

Parameters = TypeVar("Parameters", bound=BaseModel)


class CoreParameters(BaseModel):
    """What `Core` can be told in a manifest's ``architecture.parameters``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(16, ge=4, le=256, description="channels of the first stage")
    growth: tuple[int, int] = Field((2, 4), description="how many times as many the later stages have")
    pool: Literal[2, 3] = Field(2, description="side of the pooling windows, which stand every second pixel")

    @field_validator("growth")
    @classmethod
    def _growth_is_modest(cls, growth: tuple[int, int]) -> tuple[int, int]:
        if not all(1 <= times <= 16 for times in growth):
            raise ValueError("must be from 1 to 16")
        return growth


class Core(nn.Module):
    """A small network for the pixels around the source: six convolutions in three stages.

    The head sees the mean over the last stage and its central pixel, where the source is, so that it
    knows both what surrounds a detection and what it looks like itself. Windows of three
    keep an odd stamp's central pixel in the centre, so that with symmetric weights (``space2vec.training.symmetry``)
    the network gives a turned stamp the same score.

    Parameters
    ----------
    parameters : CoreParameters
        Its widths and pooling.
    planes : int
        Number of input planes.
    outputs : Outputs
        Dimension of the embedding; number of kinds and causes.
    """

    Parameters: ClassVar[type[CoreParameters]] = CoreParameters

    def __init__(self, parameters: CoreParameters, planes: int, outputs: Outputs) -> None:
        super().__init__()
        embedding = outputs.embedding
        first, second, third = (parameters.width * times for times in (1, *parameters.growth))
        self.stages = nn.Sequential(
            *_convolution(planes, first),
            *_convolution(first, first),
            nn.MaxPool2d(parameters.pool, 2),
            *_convolution(first, second),
            *_convolution(second, second),
            nn.MaxPool2d(parameters.pool, 2),
            *_convolution(second, third),
            *_convolution(third, third),
        )
        self.embed = nn.Sequential(nn.Linear(2 * third, embedding), nn.ReLU())
        self.dropout = nn.Dropout(0.3)
        self.logit = nn.Linear(embedding, 1)
        self.groups = nn.Linear(embedding, outputs.groups) if outputs.groups else None

    def forward(self, stamps: Tensor) -> tuple[Tensor, ...]:
        """Score a batch.

        Parameters
        ----------
        stamps : (N, planes, S, S) float32
            Normalised as the bundle's manifest says, S at least 8.

        Returns
        -------
        logit : (N,) float32
            Log-odds of being real, before the bundle's temperature.
        embedding : (N, D) float32
            Not negative.
        groups : (N, G) float32
            Scores of the kinds and of the causes; left out where the bundle names none.
        """
        features = self.stages(stamps)
        centre = features[:, :, features.shape[2] // 2, features.shape[3] // 2]
        embedding = self.embed(torch.cat([features.mean((2, 3)), centre], 1))
        logit = self.logit(self.dropout(embedding))[:, 0]
        return (logit, embedding) if self.groups is None else (logit, embedding, self.groups(embedding))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


NETWORKS: dict[str, type[Core]] = {"core": Core}
"""Networks by the ``architecture.kind`` of a manifest. Each returns ``(logit, embedding)`` or ``(…, groups)``."""

ENSEMBLE: Final = "ensemble"
"""The kind of several networks that speak as one."""


class EnsembleParameters(BaseModel):
    """What an ensemble can be told in a manifest's ``architecture.parameters``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: int = Field(2, ge=2, le=8, description="how many networks")
    of: Architecture = Field(description="what each of them is")


class Ensemble(nn.Module):
    """Networks of one kind, trained apart, that speak as one.

    Parameters
    ----------
    members : sequence of Module
        Each returns ``(logit, embedding)`` or ``(logit, embedding, groups)``, all of them the same.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, stamps: Tensor) -> tuple[Tensor, ...]:
        """Score a batch.

        Parameters
        ----------
        stamps : (N, planes, S, S) float32
            As each member takes them.

        Returns
        -------
        logit : (N,) float32
            Mean of the members' log-odds.
        embedding : (N, D) float32
            The first member's: networks trained apart have no axes in common, so a mean of theirs would put nothing
            with its like.
        groups : (N, G) float32
            Mean of the members' scores; left out where they have none.
        spread : (N,) float32
            Standard deviation of the members' log-odds, that of a population: of two, half their difference.
        """
        told = [member(stamps) for member in self.members]
        logits = torch.stack([logit for logit, *_ in told])
        logit, groups = logits.mean(0), [scores for _, _, *rest in told for scores in rest]
        spread = (logits - logit).square().mean(0).sqrt()
        mean = (torch.stack(groups).mean(0),) if groups else ()
        return (logit, told[0][1], *mean, spread)


def build_network(architecture: Architecture, spec: InputSpec, outputs: Outputs) -> nn.Module:
    """Build the network, or the ensemble, that a manifest names, with untrained weights, in evaluation mode.

    Parameters
    ----------
    architecture : Architecture
        Kind and parameters.
    spec : InputSpec
        What the network will be fed; its number of planes matters here.
    outputs : Outputs
        What it shall return.

    Raises
    ------
    ModelError
        If there is no such network, it has no such parameters, or the outputs are not such as it gives.
    """
    if outputs.spread != (architecture.kind == ENSEMBLE):
        raise ModelError(
            f"outputs.spread is {outputs.spread}, but {architecture.kind} gives {'one' if not outputs.spread else 'none'}"
        )
    if architecture.kind != ENSEMBLE:
        return _build(architecture, spec, outputs, "architecture")
    told = _parameters(EnsembleParameters, architecture, "architecture")
    if told.of.kind == ENSEMBLE:
        raise ModelError("architecture.parameters.of.kind: the members of an ensemble are no ensembles")
    members = [_build(told.of, spec, outputs, "architecture.parameters.of") for _ in range(told.members)]
    return Ensemble(members).eval()


def _build(architecture: Architecture, spec: InputSpec, outputs: Outputs, where: str) -> nn.Module:
    """Build a network that is no ensemble; ``where`` its architecture stands in the manifest."""
    network = NETWORKS.get(architecture.kind)
    if network is None:
        raise ModelError(
            f"{where}.kind: no network {architecture.kind!r}; known: {', '.join([*NETWORKS, ENSEMBLE])}"
        )
    parameters = _parameters(network.Parameters, architecture, where)
    return network(parameters, len(spec.planes), outputs).eval()


def _parameters(kind: type[Parameters], architecture: Architecture, where: str) -> Parameters:
    try:
        return kind.model_validate(architecture.parameters)
    except ValidationError as error:
        faults = (
            f"{where}.parameters.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise ModelError("; ".join(faults)) from error
