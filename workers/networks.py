"""The networks that a bundle may name."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from space2vec.schemas.errors import ModelError
from space2vec.workers.manifest import Architecture, InputSpec


class CoreParameters(BaseModel):
    """What `Core` can be told in a manifest's ``architecture.parameters``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(16, ge=4, le=256, description="channels of the first stage; later ones double it")


class Core(nn.Module):
    """A small network for the pixels around the source: six convolutions in three stages.

    The head sees the mean over the last stage and its central pixel, where the source is, so that it
    knows both what surrounds a detection and what it looks like itself.

    Parameters
    ----------
    parameters : CoreParameters
        Its width; 16 makes 80,625 weights of three planes and 64 dimensions.
    planes : int
        Number of input planes.
    embedding : int
        Dimension of the embedding.
    """

    Parameters: ClassVar[type[CoreParameters]] = CoreParameters

    def __init__(self, parameters: CoreParameters, planes: int, embedding: int) -> None:
        super().__init__()
        width = parameters.width
        self.stages = nn.Sequential(
            *_convolution(planes, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 4 * width),
            *_convolution(4 * width, 4 * width),
        )
        self.embed = nn.Sequential(nn.Linear(8 * width, embedding), nn.ReLU())
        self.dropout = nn.Dropout(0.3)
        self.logit = nn.Linear(embedding, 1)

    def forward(self, stamps: Tensor) -> tuple[Tensor, Tensor]:
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
        """
        features = self.stages(stamps)
        centre = features[:, :, features.shape[2] // 2, features.shape[3] // 2]
        embedding = self.embed(torch.cat([features.mean((2, 3)), centre], 1))
        return self.logit(self.dropout(embedding))[:, 0], embedding


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


NETWORKS: dict[str, type[Core]] = {"core": Core}
"""Networks by the ``architecture.kind`` of a manifest. Each returns ``(logit, embedding)``."""


def build_network(architecture: Architecture, spec: InputSpec, embedding: int) -> nn.Module:
    """Build the network that a manifest names, with untrained weights, in evaluation mode.

    Parameters
    ----------
    architecture : Architecture
        Kind and parameters.
    spec : InputSpec
        What the network will be fed; its number of planes matters here.
    embedding : int
        Dimension of the embedding.

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
    return network(parameters, len(spec.planes), embedding).eval()
