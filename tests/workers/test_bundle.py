from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from space2vec.schemas.errors import ModelError
from space2vec.workers import bundle as bundle_module
from space2vec.workers.backends import OnnxBackend
from space2vec.workers.bundle import Bundle, check_golden, load_bundle, shipped_bundles, verify_bundle


def replaced(bundle: Bundle, name: str, content: bytes) -> Bundle:
    """The bundle with one file replaced and the manifest saying so."""
    (bundle.path / name).write_bytes(content)
    manifest = json.loads((bundle.path / "manifest.json").read_bytes())
    manifest["files"][name] = hashlib.sha256(content).hexdigest()
    (bundle.path / "manifest.json").write_text(json.dumps(manifest))
    return load_bundle(bundle.path)


def with_golden(bundle: Bundle, **tensors: np.ndarray | None) -> Bundle:
    """The bundle with tensors of its golden vectors replaced, or left out where ``None``."""
    golden = safetensors.numpy.load(bundle.read("golden.safetensors")) | tensors
    kept = {name: tensor for name, tensor in golden.items() if tensor is not None}
    return replaced(bundle, "golden.safetensors", safetensors.numpy.save(kept))


def test_digest_is_that_of_the_manifest(made_bundle: Bundle) -> None:
    content = (made_bundle.path / "manifest.json").read_bytes()
    assert made_bundle.sha256 == hashlib.sha256(content).hexdigest()
    for name, digest in made_bundle.manifest.files.items():
        assert hashlib.sha256((made_bundle.path / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", ["weights.safetensors", "network.onnx", "golden.safetensors"])
def test_tampered_file_is_refused(bundle_copy: Bundle, name: str) -> None:
    path = bundle_copy.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: SHA-256 is [0-9a-f]{{64}}, manifest.json says"):
        load_bundle(bundle_copy.path)


def test_file_altered_after_loading_is_refused_where_it_is_used(bundle_copy: Bundle) -> None:
    (bundle_copy.path / "network.onnx").write_bytes(b"something else")
    with pytest.raises(ModelError, match="SHA-256"):
        OnnxBackend(bundle_copy)
    checks = {check.name: check for check in verify_bundle(bundle_copy, "cpu")}
    assert checks["weights.safetensors"].ok
    assert not checks["network.onnx"].ok
    assert not checks["scores on cpu"].ok


@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_missing_file(bundle_copy: Bundle, name: str) -> None:
    (bundle_copy.path / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: no such file"):
        load_bundle(bundle_copy.path)


def test_oversized_file(bundle_copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "MAX_FILE_BYTES", 1000)
    with pytest.raises(ModelError, match="larger than 1000 bytes"):
        load_bundle(bundle_copy.path)


def test_only_listed_files_are_read(bundle_copy: Bundle) -> None:
    (bundle_copy.path / "README.md").write_text("about")
    assert load_bundle(bundle_copy.path).sha256 == bundle_copy.sha256
    with pytest.raises(ModelError, match="not listed"):
        bundle_copy.read("README.md")


def test_no_such_bundle() -> None:
    with pytest.raises(ModelError, match=r"^nowhere: neither a folder nor a shipped bundle"):
        load_bundle("nowhere")


def test_shipped_bundle_is_found_by_name(bundle_copy: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "SHIPPED", bundle_copy.path.parent)
    assert shipped_bundles() == [bundle_copy.path.name]
    assert load_bundle(bundle_copy.path.name) == bundle_copy


def test_verifies(made_bundle: Bundle) -> None:
    checks = verify_bundle(made_bundle, "cpu")
    assert all(check.ok for check in checks), checks
    assert [check.name for check in checks] == [
        "weights.safetensors", "network.onnx", "golden.safetensors",
        "preprocessing", "logits on cpu", "embeddings on cpu",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "named"),
    [("stamps", "preprocessing"), ("logit", "logits on cpu"), ("embedding", "embeddings on cpu")],
)
@pytest.mark.parametrize("wrong", [0.001, np.nan])
def test_other_golden_values_do_not_verify(
    bundle_copy: Bundle, tensor: str, named: str, wrong: float
) -> None:
    golden = safetensors.numpy.load(bundle_copy.read("golden.safetensors"))[tensor].copy()
    golden.reshape(-1)[-1] += wrong
    spoiled = with_golden(bundle_copy, **{tensor: golden})
    failed = [check.name for check in check_golden(spoiled, OnnxBackend(spoiled)) if not check.ok]
    assert named in failed


def test_temperature_does_not_touch_golden_logits(bundle_copy: Bundle) -> None:
    path = bundle_copy.path / "manifest.json"
    path.write_text(path.read_text().replace('"temperature": 0.8', '"temperature": 2.5'))
    warmer = load_bundle(bundle_copy.path)
    assert warmer.manifest.calibration.temperature == 2.5
    assert warmer.sha256 != bundle_copy.sha256
    assert all(check.ok for check in verify_bundle(warmer, "cpu"))


@pytest.mark.parametrize("tensor", ["pixels", "stamps", "logit", "embedding"])
def test_golden_tensor_missing(bundle_copy: Bundle, tensor: str) -> None:
    spoiled = with_golden(bundle_copy, **{tensor: None})
    assert not all(check.ok for check in verify_bundle(spoiled, "cpu"))


def test_golden_tensor_of_other_shape(bundle_copy: Bundle) -> None:
    spoiled = with_golden(bundle_copy, embedding=np.zeros((6, 7), np.float32))
    with pytest.raises(ModelError, match=r"embedding is \(6, 7\) float32, not \(6, 8\) float32"):
        spoiled.golden()


def test_no_golden_vector(bundle_copy: Bundle) -> None:
    empty = {
        name: tensor[:0]
        for name, tensor in safetensors.numpy.load(bundle_copy.read("golden.safetensors")).items()
    }
    with pytest.raises(ModelError, match="holds no golden vector"):
        with_golden(bundle_copy, **empty).golden()


@pytest.mark.parametrize("name", ["golden.safetensors", "network.onnx"])
@pytest.mark.parametrize("content", [b"", b"rubbish" * 100, pickle.dumps({"weights": 1}), b"\xff" * 64])
def test_listed_rubbish_is_a_model_error(bundle_copy: Bundle, name: str, content: bytes) -> None:
    spoiled = replaced(bundle_copy, name, content)
    checks = verify_bundle(spoiled, "cpu")
    assert not checks[-1].ok
    assert name in checks[-1].detail


def test_graph_and_manifest_name_nothing_of_the_machine_that_made_them(made_bundle: Bundle) -> None:
    for name in ("network.onnx", "manifest.json", "weights.safetensors"):
        content = (made_bundle.path / name).read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in content
        assert b'File "' not in content


def test_scoring_on_the_cpu_needs_neither_torch_nor_ray(made_bundle: Bundle) -> None:
    program = f"""
import sys
from space2vec.workers.bundle import load_bundle, verify_bundle
from space2vec.workers.preprocess import Preprocessor
assert all(check.ok for check in verify_bundle(load_bundle({str(made_bundle.path)!r}), "auto"))
loaded = {{"torch", "ray", "onnx"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={"CUDA_VISIBLE_DEVICES": ""})
