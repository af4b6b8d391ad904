"""The networks that a bundle may name."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from torch import Tensor, nn

from space2vec.schemas.errors import ModelError
from space2vec.workers.manifest import Architecture, InputSpec, Outputs


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


def build_network(architecture: Architecture, spec: InputSpec, outputs: Outputs) -> nn.Module:
    """Build the network that a manifest names, with untrained weights, in evaluation mode.

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
        If there is no such network or it has no such parameters.
    """
    network = NETWORKS.get(architecture.kind)
    if network is None:
        raise ModelError(f"architecture.kind: no network {architecture.kind!r}; known: {', '.join(NETWORKS)}")
    try:
        parameters = network.Parameters.model_validate(architecture.parameters)
    except ValidationError as error:
        faults = (
            f"architecture.parameters.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise ModelError("; ".join(faults)) from error
    return network(parameters, len(spec.planes), outputs).eval()
