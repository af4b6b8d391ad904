"""Keras networks as ONNX graphs: the architecture's JSON and the weights' HDF5, without TensorFlow.

For sequential networks of convolutions, pooling and dense layers, which is what most published real/bogus
classifiers are. HDF5 holds arrays and names; nothing in it is executed.

Usage: ``python -m space2vec.training.keras ARCHITECTURE.json WEIGHTS.h5 NETWORK.onnx``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from space2vec.schemas.errors import ModelError

OPSET: Final = 18
ACTIVATIONS: Final = {"linear": None, "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}

Array = NDArray[np.float32]


class _Builder:
    """Nodes and weights of a graph under way; ``last`` is what the next layer takes."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.last = "images"
        self.planes_last = True

    def add(self, operation: str, *more: NDArray[Any], **attributes: Any) -> None:
        name = f"{operation.lower()}_{len(self.nodes)}"
        names = [f"{name}_{i}" for i in range(len(more))]
        self.weights += [numpy_helper.from_array(a, n) for a, n in zip(more, names, strict=True)]
        self.nodes.append(helper.make_node(operation, [self.last, *names], [name], **attributes))
        self.last = name

    def planes_first(self, wanted: bool) -> None:
        """Turn the axes as the next layer needs them: ONNX convolves planes first, Keras counts planes last."""
        if wanted == self.planes_last:
            self.add("Transpose", perm=[0, 3, 1, 2] if wanted else [0, 2, 3, 1])
            self.planes_last = not wanted


def _convolution(builder: _Builder, layer: Mapping[str, Any], weights: Sequence[Array]) -> None:
    builder.planes_first(True)
    kernel, *bias = weights
    builder.add(
        "Conv",
        np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)),
        *bias,
        strides=layer["strides"],
        dilations=layer["dilation_rate"],
        auto_pad="VALID" if layer["padding"] == "valid" else "SAME_UPPER",
    )


def _pooling(operation: str) -> Callable[[_Builder, Mapping[str, Any], Sequence[Array]], None]:
    def add(builder: _Builder, layer: Mapping[str, Any], _: Sequence[Array]) -> None:
        builder.planes_first(True)
        pad = "VALID" if layer["padding"] == "valid" else "SAME_UPPER"
        builder.add(operation, kernel_shape=layer["pool_size"], strides=layer["strides"], auto_pad=pad)

    return add


def _flatten(builder: _Builder, _: Mapping[str, Any], __: Sequence[Array]) -> None:
    builder.planes_first(False)
    builder.add("Flatten", axis=1)


def _dense(builder: _Builder, _: Mapping[str, Any], weights: Sequence[Array]) -> None:
    kernel, *bias = weights
    builder.add("MatMul", kernel)
    for each in bias:
        builder.add("Add", each)


def _nothing(builder: _Builder, _: Mapping[str, Any], __: Sequence[Array]) -> None:
    """Dropout: of scoring no part."""


LAYERS: Final[dict[str, Callable[[_Builder, Mapping[str, Any], Sequence[Array]], None]]] = {
    "Conv2D": _convolution,
    "MaxPooling2D": _pooling("MaxPool"),
    "AveragePooling2D": _pooling("AveragePool"),
    "Flatten": _flatten,
    "Dense": _dense,
    "Dropout": _nothing,
    "InputLayer": _nothing,
}


def keras_to_onnx(architecture: str, weights: Path) -> bytes:
    """Make an ONNX graph of a sequential Keras network.

    Parameters
    ----------
    architecture : str
        What ``model.to_json()`` gives.
    weights : Path
        What ``model.save_weights()`` writes, HDF5.

    Returns
    -------
    bytes
        A graph from ``images``, ``(N, rows, columns, planes)`` float32, to ``score``.

    Raises
    ------
    ModelError
        If the network is not sequential, or has a layer or an activation that is not known here.
    """
    network = json.loads(architecture)
    if network["class_name"] != "Sequential":
        raise ModelError(f"a Keras network of class {network['class_name']}: only Sequential is known")
    layers = network["config"]["layers"]
    builder = _Builder()
    with h5py.File(weights, "r") as file:
        for layer in layers:
            settings = layer["config"]
            add = LAYERS.get(layer["class_name"])
            activation = settings.get("activation", "linear")
            if add is None or activation not in ACTIVATIONS:
                raise ModelError(
                    f"Keras layer {settings['name']}: {layer['class_name']} ({activation}) is not known"
                )
            add(builder, settings, _arrays(file, settings["name"]))
            if (operation := ACTIVATIONS[activation]) is not None:
                builder.add(operation)
    shape = layers[0]["config"]["batch_input_shape"]
    builder.nodes.append(helper.make_node("Identity", [builder.last], ["score"]))
    graph = helper.make_graph(
        builder.nodes,
        network["config"]["name"],
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N", None])],
        builder.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _arrays(file: h5py.File, layer: str) -> list[Array]:
    """Weights of a layer in Keras' own order: the kernel, then the bias."""
    if layer not in file:
        return []
    names = file[layer].attrs["weight_names"]
    return [np.asarray(file[layer][name], np.float32) for name in names]


if __name__ == "__main__":
    json_file, h5_file, onnx_file = map(Path, sys.argv[1:])
    onnx_file.write_bytes(keras_to_onnx(json_file.read_text("utf-8"), h5_file))
