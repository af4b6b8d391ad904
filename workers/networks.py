"""The networks a bundle may name, and their export to ONNX."""

from __future__ import annotations

import io
import warnings
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from space2vec.schemas.errors import ModelError
from space2vec.workers.manifest import Architecture

OPSET = 18
"""ONNX operator set of exported graphs."""


class CoreParameters(BaseModel):
    """What `Core` can be told in a manifest's ``architecture.parameters``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    planes: int = Field(3, ge=1, le=16, description="number of input planes")
    width: int = Field(16, ge=4, le=256, description="channels of the first stage; later ones double it")
    embedding: int = Field(64, ge=1, le=4096, description="dimension of the embedding")


class Core(nn.Module):
    """A small network for the pixels around the source: six convolutions in three stages.

    The head sees the mean over the last stage and its central pixel, where the source is, so that it
    knows both what surrounds a detection and what it looks like itself.

    Parameters
    ----------
    parameters : CoreParameters
        Sizes; the default has 80,625 weights.
    """

    Parameters: ClassVar[type[CoreParameters]] = CoreParameters

    def __init__(self, parameters: CoreParameters) -> None:
        super().__init__()
        width = parameters.width
        self.stages = nn.Sequential(
            *_convolution(parameters.planes, width),
            *_convolution(width, width),
            nn.MaxPool2d(2),
            *_convolution(width, 2 * width),
            *_convolution(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *_convolution(2 * width, 4 * width),
            *_convolution(4 * width, 4 * width),
        )
        self.embed = nn.Sequential(nn.Linear(8 * width, parameters.embedding), nn.ReLU())
        self.dropout = nn.Dropout(0.3)
        self.logit = nn.Linear(parameters.embedding, 1)

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


def build(architecture: Architecture) -> nn.Module:
    """Build the network that a manifest names, with untrained weights, in evaluation mode.

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
        faults = "; ".join(
            f"architecture.parameters.{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise ModelError(faults) from error
    return network(parameters).eval()


def export_onnx(network: nn.Module, planes: int, size: int) -> bytes:
    """Export a network as an ONNX graph with a free batch size.

    Parameters
    ----------
    network : Module
        In evaluation mode; returns ``(logit, embedding)``.
    planes, size : int
        Shape of its input: ``(N, planes, size, size)``.

    Returns
    -------
    bytes
        A graph from ``stamps`` to ``logit`` and ``embedding``, weights inside.

    Raises
    ------
    ValueError
        If the network is in training mode: its batch norms would be exported as such.
    """
    if network.training:
        raise ValueError("only a network in evaluation mode can be exported")
    example = torch.zeros(2, planes, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program: Any = torch.onnx.export(
            network,
            (example,),
            input_names=["stamps"],
            output_names=["logit", "embedding"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    graph = io.BytesIO()
    program.save(graph)
    return graph.getvalue()
