"""From anybody's ONNX graph to a bundle: a graph with one stamp input and one score, made to keep our contract.

What a graph of another making does differently is said in words (the order of its axes, what its output means) and put
right by nodes before and after it, so that a bundle's graph is always of one form. Nothing is executed but
ONNX Runtime's own operations, and nothing unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import CPU_PROVIDER
from space2vec.workers.bundle import Bundle, write_files
from space2vec.workers.manifest import GRAPH, InputSpec, Manifest
from space2vec.workers.preprocess import normalise_triplets

Layout = Literal["planes-first", "planes-last"]
Meaning = Literal["log-odds", "probability"]

LARGEST: Final = float(np.float32(1) - np.float32(2.0**-24))
"""The largest float32 below 1: a probability that was rounded to 1 has the log-odds of this one, 16.6."""


def import_graph(
    folder: Path,
    manifest: Manifest,
    graph: bytes,
    golden_stamps: NDArray[np.float32],
    layout: Layout = "planes-first",
    meaning: Meaning = "log-odds",
) -> Bundle:
    """Write a bundle around a graph.

    Parameters
    ----------
    folder : Path
        Made if need be; a bundle in it is replaced.
    manifest : Manifest
        Without ``files``; its ``architecture.kind`` is ``graph``.
    graph : bytes
        ONNX, weights inside: one input, float32, of the layout, the number of stamps left free; its first
        output has one number per stamp, and so has the second where the manifest promises a spread.
    golden_stamps : (K, P, H, W) float32
        Pixel values as a survey has them, source at ``(H // 2, W // 2)``, NaN where there is no pixel.
    layout : {'planes-first', 'planes-last'}
        Whether the graph takes ``(N, P, S, S)`` or ``(N, S, S, P)``, as Keras has it.
    meaning : {'log-odds', 'probability'}
        What its output is: the log-odds of the manifest's first class, or its probability.

    Raises
    ------
    ModelError
        If the graph is none, keeps its weights elsewhere, or does not take and give what it should.
    """
    if manifest.architecture.kind != GRAPH or manifest.outputs.embedding or manifest.outputs.groups:
        raise ModelError(f"a graph alone has architecture.kind {GRAPH}, no embedding, no kinds and no causes")
    if manifest.outputs.spread and meaning != "log-odds":
        raise ModelError("outputs.spread: of log-odds; a graph that gives a probability cannot have it")
    pixels = np.ascontiguousarray(golden_stamps, np.float32)
    if pixels.ndim != 4 or pixels.shape[1] != len(manifest.input.planes) or not len(pixels):
        raise ModelError(f"golden stamps are {pixels.shape}, not (K, {len(manifest.input.planes)}, H, W)")
    stamps = normalise_triplets(pixels, manifest.input)
    adapted = adapt(graph, manifest.input, layout, meaning, spread=manifest.outputs.spread)
    names = manifest.outputs.names
    try:
        session = onnxruntime.InferenceSession(adapted, providers=[CPU_PROVIDER])
        told = dict(zip(names, session.run(names, {"stamps": stamps}), strict=True))
    except Exception as error:  # onnxruntime's own exceptions share no base but Exception
        raise ModelError(f"the graph cannot be run: {error}") from error
    for name, found in told.items():
        if found.shape != manifest.outputs.shape(name, len(stamps)) or not np.isfinite(found).all():
            raise ModelError(
                f"the graph gives {found.size} numbers for {len(stamps)} stamps, or such as are not finite"
            )
    if (told.get("spread", stamps[:0]) < 0).any():
        raise ModelError("the graph's second output is negative: no standard deviation")
    golden = {"pixels": pixels, "stamps": stamps} | told
    contents = {manifest.graph: adapted, manifest.golden: safetensors.numpy.save(golden)}
    return write_files(folder, manifest, contents)


def adapt(graph: bytes, spec: InputSpec, layout: Layout, meaning: Meaning, *, spread: bool = False) -> bytes:
    """Make a graph take ``stamps`` and give ``logit`` and ``embedding``, and ``spread`` if asked for.

    Raises
    ------
    ModelError
        As :func:`import_graph`.
    """
    try:
        model = onnx.load_model_from_string(graph)
        onnx.checker.check_model(model)
    except Exception as error:
        raise ModelError(f"no ONNX graph: {error}") from error
    inner = model.graph
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in inner.initializer):
        raise ModelError("the graph keeps its weights in another file: save it with them inside")
    weights = {tensor.name for tensor in inner.initializer}
    inputs = [value for value in inner.input if value.name not in weights]
    given = 2 if spread else 1
    if len(inputs) != 1 or len(inner.output) < given:
        raise ModelError(
            f"the graph takes {len(inputs)} inputs and gives {len(inner.output)} outputs, not 1 and {given}"
        )
    side, planes = spec.size, len(spec.planes)
    _check_input(inputs[0], (planes, side, side) if layout == "planes-first" else (side, side, planes))

    before = "Identity" if layout == "planes-first" else "Transpose"
    order = {} if layout == "planes-first" else {"perm": [0, 2, 3, 1]}
    prefix = "space2vec_"
    score = inner.output[0].name
    constants: dict[str, NDArray[Any]] = {
        "flat": np.array([-1], np.int64),
        "column": np.array([-1, 1], np.int64),
        "nothing": np.array([0], np.int64),
        "beginning": np.array([0], np.int64),
        "second": np.array([1], np.int64),
    }
    first = [helper.make_node(before, ["stamps"], [inputs[0].name], **order)]
    last = [helper.make_node("Reshape", [score, prefix + "flat"], [prefix + "score"])]
    if meaning == "log-odds":
        last.append(helper.make_node("Identity", [prefix + "score"], ["logit"]))
    else:
        for name, value in (("least", 1e-30), ("largest", LARGEST), ("one", 1.0)):
            constants[name] = np.array(value, np.float32)
        last += [
            helper.make_node("Clip", [prefix + n for n in ("score", "least", "largest")], [prefix + "p"]),
            helper.make_node("Sub", [prefix + "one", prefix + "p"], [prefix + "q"]),
            helper.make_node("Log", [prefix + "p"], [prefix + "log_p"]),
            helper.make_node("Log", [prefix + "q"], [prefix + "log_q"]),
            helper.make_node("Sub", [prefix + "log_p", prefix + "log_q"], ["logit"]),
        ]
    last += [  # no columns of the scores, one row each
        helper.make_node("Reshape", [prefix + "score", prefix + "column"], [prefix + "rows"]),
        helper.make_node(
            "Slice", [prefix + n for n in ("rows", "beginning", "nothing", "second")], ["embedding"]
        ),
    ]
    outputs = [
        helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 0]),
    ]
    if spread:
        last.append(helper.make_node("Reshape", [inner.output[1].name, prefix + "flat"], ["spread"]))
        outputs.append(helper.make_tensor_value_info("spread", TensorProto.FLOAT, ["N"]))
    taken = {name for node in inner.node for name in (*node.input, *node.output)} | weights
    if clash := sorted(taken & {"stamps", *(value.name for value in outputs)}):
        raise ModelError(f"the graph uses the name {clash[0]} itself")
    made = helper.make_graph(
        [*first, *inner.node, *last],
        inner.name or "network",
        [helper.make_tensor_value_info("stamps", TensorProto.FLOAT, ["N", planes, side, side])],
        outputs,
        [*inner.initializer, *(numpy_helper.from_array(a, prefix + n) for n, a in constants.items())],
    )
    whole = helper.make_model(made, opset_imports=model.opset_import, functions=model.functions)
    whole.ir_version = model.ir_version
    return bytes(whole.SerializeToString(deterministic=True))


def _check_input(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    kind = value.type.tensor_type
    found = [axis.dim_value if axis.HasField("dim_value") else None for axis in kind.shape.dim]
    fits = (
        len(found) == 4
        and found[0] is None
        and all(a in (None, b) for a, b in zip(found[1:], shape, strict=True))
    )
    if kind.elem_type != TensorProto.FLOAT or not fits:
        shown = ", ".join("N" if axis is None else str(axis) for axis in found)
        expected = ", ".join(map(str, shape))
        raise ModelError(f"the graph takes ({shown}), not (N, {expected}) float32 with N left free")


def made_stamps(spec: InputSpec, size: int = 63) -> NDArray[np.float32]:
    """Make up golden stamps: sources of rising flux on noise, with rows, pixels and a whole plane missing.

    Returns
    -------
    (8, P, size, size) float32
        The same ones every time.
    """
    rng = np.random.default_rng(20260101)
    stamps = rng.normal(100.0, 10.0, (8, len(spec.planes), size, size))
    y, x = np.mgrid[:size, :size] - size // 2
    flux = np.geomspace(20, 20000, 8)
    stamps += flux[:, None, None, None] * np.exp(-(x**2 + y**2) / (2 * 1.3**2))
    stamps[0, :, -8:] = np.nan
    stamps[1, 0, size // 2, size // 2] = np.nan
    stamps[2, len(spec.planes) // 2] = np.nan
    return stamps.astype(np.float32)
