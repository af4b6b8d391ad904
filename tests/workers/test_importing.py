"""Graphs of another making: brought into our form, and refused where they are none."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from space2vec.schemas.errors import ModelError
from space2vec.schemas.settings import RaySettings, Settings
from space2vec.stream.cli import run_command
from space2vec.training.keras import keras_to_onnx
from space2vec.workers import backends
from space2vec.workers.backends import OnnxBackend, open_backend
from space2vec.workers.bundle import load_bundle, verify_bundle
from space2vec.workers.importing import import_graph, made_stamps
from space2vec.workers.manifest import (
    Architecture,
    Calibration,
    InputSpec,
    Manifest,
    Normalisation,
    Outputs,
    parse_manifest,
)
from space2vec.workers.normalise import normalise_planes, window
from space2vec.workers.preprocess import normalise_triplets

SIZE = 9


def manifest_of(size: int = SIZE, kind: str = "l2", **more: Any) -> Manifest:
    spec = InputSpec(size=size, normalisation=Normalisation(kind=kind))  # type: ignore[arg-type]
    return Manifest(name="theirs", version="3", architecture=Architecture(kind="graph"), input=spec, **more)


def graph_of(
    shape: list[Any], final: str | None = None, kind: int = TensorProto.FLOAT, column: bool = True
) -> bytes:
    """A weighted sum of all pixels, ``(N, 1)`` or ``(N,)``, through a last operation."""
    count = int(np.prod([side for side in shape[1:] if isinstance(side, int)]))
    weights = np.linspace(-3, 3, count, dtype=np.float32)[:, None]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "w"], ["sum"]),
        helper.make_node(final or "Identity", ["sum"], ["act"]),
        helper.make_node("Identity" if column else "Squeeze", ["act", *([] if column else ["one"])], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info("y", kind, ["N", 1] if column else ["N"])]
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([1]), "one")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("meaning", ["log-odds", "probability"])
@pytest.mark.parametrize("layout", ["planes-first", "planes-last"])
def test_a_graph_scores_as_it_did_whatever_its_form(
    tmp_path: Path, layout: Any, meaning: Any, column: bool
) -> None:
    shape = ["N", 3, SIZE, SIZE] if layout == "planes-first" else ["N", SIZE, SIZE, 3]
    graph = graph_of(shape, "Sigmoid" if meaning == "probability" else None, column=column)
    spec = manifest_of().input
    bundle = import_graph(tmp_path / "b", manifest_of(), graph, made_stamps(spec), layout, meaning)
    assert all(check.ok for check in verify_bundle(bundle, "auto"))
    assert bundle.manifest.files.keys() == {"network.onnx", "golden.safetensors"}
    stamps = normalise_triplets(made_stamps(spec, 21), spec)
    laid = stamps if layout == "planes-first" else stamps.transpose(0, 2, 3, 1)
    expected = laid.reshape(len(stamps), -1) @ np.linspace(-3, 3, 3 * SIZE * SIZE, dtype=np.float32)
    scores = OnnxBackend(bundle).score(stamps)
    np.testing.assert_allclose(scores.logit, expected, rtol=1e-4, atol=1e-5)
    assert scores.embedding.shape == (len(stamps), 0)


def test_a_probability_that_was_rounded_to_one_has_finite_log_odds(tmp_path: Path) -> None:
    graph = graph_of(["N", 3, SIZE, SIZE], "Sigmoid")
    huge = manifest_of(kind="none")  # pixels as they are: sums of many thousands
    bundle = import_graph(tmp_path / "b", huge, graph, made_stamps(huge.input), meaning="probability")
    scores = OnnxBackend(bundle).score(normalise_triplets(made_stamps(huge.input), huge.input))
    assert np.isfinite(scores.logit).all()
    assert scores.probability.max() > 1 - 1e-7


def pair_of(second: float) -> bytes:
    """The mean of the pixels, and that times a number as the second output."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("ReduceMean", ["flat", "axis"], ["mean"], keepdims=1),
        helper.make_node("Abs", ["mean"], ["size"]),
        helper.make_node("Mul", ["size", "times"], ["apart"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("mean", "apart")]
    constants = [
        numpy_helper.from_array(np.array([1]), "axis"),
        numpy_helper.from_array(np.array(second, np.float32), "times"),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_a_second_output_is_the_spread_where_the_manifest_says_so(tmp_path: Path) -> None:
    manifest = manifest_of(outputs=Outputs(spread=True), calibration=Calibration(temperature=0.5))
    bundle = import_graph(tmp_path / "b", manifest, pair_of(3.0), made_stamps(manifest.input))
    assert all(check.ok for check in verify_bundle(bundle, "auto"))
    scores = OnnxBackend(bundle).score(bundle.golden().stamps)
    assert scores.spread is not None
    np.testing.assert_allclose(scores.spread, 3 * np.abs(scores.logit), rtol=1e-5)
    np.testing.assert_allclose(scores.logit, 2 * bundle.golden().stamps.mean((1, 2, 3)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("graph", "meaning", "told"),
    [
        (graph_of(["N", 3, SIZE, SIZE]), "log-odds", "gives 1 outputs, not 1 and 2"),
        (pair_of(3.0), "probability", "a graph that gives a probability cannot have it"),
        (pair_of(-3.0), "log-odds", "negative: no standard deviation"),
        (pair_of(float("nan")), "log-odds", "not finite"),
    ],
)
def test_what_is_no_spread_is_refused(tmp_path: Path, graph: bytes, meaning: Any, told: str) -> None:
    manifest = manifest_of(outputs=Outputs(spread=True))
    with pytest.raises(ModelError, match=told):
        import_graph(tmp_path / "b", manifest, graph, made_stamps(manifest.input), meaning=meaning)


def broken_externally(graph: bytes) -> bytes:
    model = onnx.load_model_from_string(graph)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("graph", "named"),
    [
        (b"", "no ONNX graph"),
        (b"rubbish" * 50, "no ONNX graph"),
        (graph_of([1, 3, SIZE, SIZE]), r"takes \(1, 3, 9, 9\), not \(N, 3, 9, 9\)"),
        (graph_of(["N", 3, SIZE, SIZE + 1]), r"takes \(N, 3, 9, 10\)"),
        (graph_of(["N", SIZE, SIZE, 3]), r"takes \(N, 9, 9, 3\)"),
        (graph_of(["N", 3, SIZE, SIZE], kind=TensorProto.DOUBLE), "float32"),
        (broken_externally(graph_of(["N", 3, SIZE, SIZE])), "another file|no ONNX graph"),
    ],
)
def test_what_is_no_such_graph_is_refused_and_leaves_no_bundle(
    tmp_path: Path, graph: bytes, named: str
) -> None:
    with pytest.raises(ModelError, match=named):
        import_graph(tmp_path / "b", manifest_of(), graph, made_stamps(manifest_of().input))
    assert not (tmp_path / "b" / "manifest.json").exists()


def test_a_graph_whose_scores_are_not_finite_is_refused(tmp_path: Path) -> None:
    manifest = manifest_of(kind="none")  # pixels as they are: sums of many thousands
    with pytest.raises(ModelError, match="not finite"):
        import_graph(
            tmp_path / "b", manifest, graph_of(["N", 3, SIZE, SIZE], "Exp"), made_stamps(manifest.input)
        )


def test_a_graph_alone_runs_on_cpus_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "cuda_devices", lambda: 1)
    graph = graph_of(["N", 3, SIZE, SIZE])
    bundle = import_graph(tmp_path / "b", manifest_of(), graph, made_stamps(manifest_of().input))
    assert open_backend(bundle).device == "cpu"
    with pytest.raises(ModelError, match="has a graph and no weights"):
        open_backend(bundle, "cuda")


def test_classifiers_of_a_graph_alone_take_no_gpu(tmp_path: Path, ray_cluster: Any) -> None:
    from space2vec.workers.classifier import start_classifiers

    graph = graph_of(["N", 3, SIZE, SIZE])
    bundle = import_graph(tmp_path / "b", manifest_of(), graph, made_stamps(manifest_of().input))
    settings = Settings(ray=RaySettings(gpus_per_classifier=1.0))
    (classifier,) = start_classifiers(bundle, 1, settings)
    ready = ray_cluster.get(classifier.ready.remote())
    ray_cluster.kill(classifier)
    assert (ready.device, ready.gpu_ids) == ("cpu", ())


def test_the_command_makes_a_bundle_that_verifies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.onnx").write_bytes(graph_of(["N", SIZE, SIZE, 3], "Sigmoid"))
    draft = {"name": "theirs", "version": "1", "architecture": {"kind": "graph"}, "input": {"size": SIZE}}
    Path("draft.json").write_text(json.dumps(draft))
    np.save("stamps.npy", made_stamps(manifest_of().input, 31))
    command = [
        "model",
        "import",
        "theirs.onnx",
        "theirs",
        "--manifest",
        "draft.json",
        "--stamps",
        "stamps.npy",
    ]
    assert run_command([*command, "--layout", "planes-last", "--output", "probability"]) == 0
    assert load_bundle("theirs").sha256 in capsys.readouterr().out
    assert run_command(command) == 4
    assert "not (N, 3, 9, 9) float32" in capsys.readouterr().err
    assert run_command([*command[:-1], "nowhere.npy"]) == 2


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.integers(0, 20))
def test_l2_gives_planes_of_norm_one_whatever_the_unit(seed: int, unit: float, holes: int) -> None:
    rng = np.random.default_rng(seed)
    plane = rng.normal(5, 1, (1, SIZE, SIZE)).astype(np.float32) * np.float32(unit)
    plane.reshape(-1)[rng.choice(SIZE * SIZE, holes, replace=False)] = np.nan
    out = np.empty_like(plane)
    lay = window((SIZE, SIZE), (SIZE // 2, SIZE // 2), SIZE)
    spec = InputSpec(size=SIZE, normalisation=Normalisation(kind="l2"))
    reports = normalise_planes(plane.copy(), lay, spec, out)
    assert np.linalg.norm(out) == pytest.approx(1, abs=1e-6)
    assert np.array_equal(out == 0, np.isnan(plane))
    assert bool(reports) == bool(holes)
    as_is = np.empty_like(plane)
    spec = InputSpec(size=SIZE, normalisation=Normalisation(kind="none"))
    assert normalise_planes(plane.copy(), lay, spec, as_is) == reports
    np.testing.assert_array_equal(as_is, np.nan_to_num(plane))


def keras_files(folder: Path, layers: list[dict[str, Any]], weights: dict[str, list[NDArray[Any]]]) -> Path:
    with h5py.File(folder / "w.h5", "w") as file:
        for name, arrays in weights.items():
            group = file.create_group(name)
            names = [f"{name}/part{i}:0" for i in range(len(arrays))]
            group.attrs["weight_names"] = [n.encode() for n in names]
            for n, array in zip(names, arrays, strict=True):
                group[n] = array
    config = {"class_name": "Sequential", "config": {"name": "made", "layers": layers}}
    (folder / "a.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_keras_network_is_computed_as_keras_says(tmp_path: Path, padding: str) -> None:
    """Held against the definition, by loops."""
    rng = np.random.default_rng(3)
    kernel, bias = rng.normal(size=(3, 3, 2, 4)), rng.normal(size=4)
    side = 5 if padding == "valid" else 7
    pooled = side // 2
    dense, last = rng.normal(size=(pooled * pooled * 4, 1)), rng.normal(size=1)
    conv = {"name": "c", "strides": [1, 1], "dilation_rate": [1, 1], "padding": padding, "activation": "relu",
            "batch_input_shape": [None, 7, 7, 2]}  # fmt: skip
    pool = {"name": "p", "pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    layers = [
        {"class_name": "Conv2D", "config": conv},
        {"class_name": "MaxPooling2D", "config": pool},
        {"class_name": "Dropout", "config": {"name": "d"}},
        {"class_name": "Flatten", "config": {"name": "f"}},
        {"class_name": "Dense", "config": {"name": "o", "activation": "sigmoid"}},
    ]
    folder = keras_files(tmp_path, layers, {"c": [kernel, bias], "o": [dense, last]})
    session_input = rng.normal(size=(2, 7, 7, 2)).astype(np.float32)
    padded = np.pad(session_input, ((0, 0), (1, 1), (1, 1), (0, 0))) if padding == "same" else session_input
    maps = np.empty((2, side, side, 4))
    for y in range(side):
        for x in range(side):
            maps[:, y, x] = np.einsum("nabc,abcd->nd", padded[:, y : y + 3, x : x + 3], kernel) + bias
    maps = np.maximum(maps, 0)[:, : 2 * pooled, : 2 * pooled]
    maps = maps.reshape(2, pooled, 2, pooled, 2, 4).max(axis=(2, 4))
    expected = 1 / (1 + np.exp(-(maps.reshape(2, -1) @ dense + last)))
    import onnxruntime

    graph = keras_to_onnx((folder / "a.json").read_text(), folder / "w.h5")
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"images": session_input})[0], expected, atol=1e-6)


def test_a_keras_layer_that_is_not_known_is_named(tmp_path: Path) -> None:
    layers = [{"class_name": "LSTM", "config": {"name": "memory", "batch_input_shape": [None, 3]}}]
    folder = keras_files(tmp_path, layers, {})
    with pytest.raises(ModelError, match="memory: LSTM"):
        keras_to_onnx((folder / "a.json").read_text(), folder / "w.h5")


def test_braai_gives_its_published_scores(shared: Path, tmp_path: Path) -> None:
    """Through every part: HDF5 to graph to bundle, normalisation, ONNX Runtime, log-odds and back."""
    weights = shared / "weights" / "braai"
    graph = keras_to_onnx(
        (weights / "braai_d6_m9.architecture.json").read_text(), weights / "braai_d6_m9.weights.h5"
    )
    page = (Path(__file__).parents[2] / "docs" / "bring-a-bundle.md").read_text()
    example = page.partition("<!-- braai's manifest -->\n```json\n")[2].partition("```")[0]
    manifest = parse_manifest(example.encode(), "bring-a-bundle.md", draft=True)
    golden = made_stamps(manifest.input)
    bundle = import_graph(tmp_path / "braai", manifest, graph, golden, "planes-last", "probability")
    triplets = np.load(weights / "acceptance" / "usage_triplets.npy", allow_pickle=False)
    with (weights / "acceptance" / "usage_candidates.csv").open() as file:
        published = np.array([float(row["new_drb"]) for row in csv.DictReader(file)])
    assert len(published) == len(triplets) == 39
    pixels = triplets.transpose(0, 3, 1, 2).astype(np.float32)
    scores = OnnxBackend(bundle).score(normalise_triplets(pixels, bundle.manifest.input))
    np.testing.assert_allclose(scores.probability, published, atol=1e-6, rtol=0)
