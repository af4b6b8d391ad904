"""Writing bundles: a trained network becomes weights, an ONNX graph, golden vectors and a manifest."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import OnnxBackend
from space2vec.workers.bundle import Bundle, write_files
from space2vec.workers.manifest import Manifest
from space2vec.workers.preprocess import normalise_triplets
from space2vec.workers.scores import shares, uncalibrated
from space2vec.workers.torch_backend import TorchBackend

OPSET = 18

PARITY = 1e-5
"""How far ONNX Runtime may be from torch, times the larger of 1 and the value."""


def write_bundle(
    folder: Path, manifest: Manifest, network: torch.nn.Module, golden_stamps: NDArray[np.float32]
) -> Bundle:
    """Write a bundle and check that what was written gives the network's own scores.

    Parameters
    ----------
    folder : Path
        Made if need be; a bundle in it is replaced.
    manifest : Manifest
        Without ``files``: they are filled in here.
    network : torch.nn.Module
        Takes ``(N, P, S, S)`` float32 and returns a logit, ``(N,)``, an embedding, ``(N, D)``, the scores of the
        groups, ``(N, G)``, where the manifest names any, and the spread, ``(N,)``, where it promises one. It is
        moved to the CPU and put into evaluation mode.
    golden_stamps : (K, P, H, W) float32
        Pixel values as a survey has them, not normalised, source at ``(H // 2, W // 2)``, NaN where there is no
        pixel: the golden vectors are made of these, so choose hard and odd ones as well.

    Raises
    ------
    ModelError
        If the network's outputs do not fit the manifest, or ONNX Runtime does not agree with torch to 1e-5.
    """
    network = network.cpu().eval()
    pixels = np.ascontiguousarray(golden_stamps, np.float32)
    stamps = normalise_triplets(pixels, manifest.input)
    with torch.inference_mode():
        returned = [tensor.float().numpy() for tensor in network(torch.from_numpy(stamps))]
    shapes = [output.shape for output in returned]
    outputs = manifest.outputs
    expected = [outputs.shape(name, len(stamps)) for name in outputs.names]
    if shapes != expected:
        raise ModelError(f"the network returns {shapes}, not {expected}")
    golden = dict(zip(outputs.names, returned, strict=True))
    if outputs.groups:
        golden["groups"] = shares(golden["groups"], len(outputs.kinds))
    contents = {
        manifest.weights: safetensors.torch.save(
            {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
        ),
        manifest.graph: _onnx_graph(network, manifest),
        manifest.golden: safetensors.numpy.save({"pixels": pixels, "stamps": stamps} | golden),
    }
    bundle = write_files(folder, manifest, contents)
    _check_parity(bundle, stamps, golden)
    return bundle


def _onnx_graph(network: torch.nn.Module, manifest: Manifest) -> bytes:
    spec = manifest.input
    sample = torch.zeros(2, len(spec.planes), spec.size, spec.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter calls deprecated parts of torch itself
        program = torch.onnx.export(
            network,
            (sample,),
            input_names=["stamps"],
            output_names=manifest.outputs.names,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ModelError("torch exported no ONNX program")
    model = program.model_proto
    _strip(model)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: they hold source lines and paths of the machine that exported."""
    model.doc_string = ""
    graph = model.graph
    graph.doc_string = ""
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


def _check_parity(
    bundle: Bundle, stamps: NDArray[np.float32], golden: dict[str, NDArray[np.float32]]
) -> None:
    for backend in (OnnxBackend(bundle), TorchBackend(bundle, "cpu")):
        scores = backend.score(stamps)
        found = uncalibrated(scores, bundle.manifest)
        for name, expected in golden.items():
            if not np.allclose(found[name], expected, rtol=PARITY, atol=PARITY):
                gap = float(np.abs(found[name] - expected).max())
                raise ModelError(f"{type(backend).__name__}: {name} differs from the network's by {gap:.1e}")
