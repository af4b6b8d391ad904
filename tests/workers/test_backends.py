from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from space2vec.schemas.errors import ModelError
from space2vec.workers import backends
from space2vec.workers.backends import BatchTooLarge, DeviceBroken, OnnxBackend, open_backend
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.preprocess import normalise_triplets
from space2vec.workers.torch_backend import TorchBackend, classified

Stamps = NDArray[np.float32]


@pytest.fixture(scope="module")
def stamps(made_bundle: Bundle, make_triplets: Callable[..., Stamps]) -> Stamps:
    return normalise_triplets(make_triplets(33, seed=5), made_bundle.manifest.input)


def test_onnx_runtime_and_torch_agree(made_bundle: Bundle, stamps: Stamps) -> None:
    onnx, eager = OnnxBackend(made_bundle).score(stamps), TorchBackend(made_bundle, "cpu").score(stamps)
    assert np.ptp(onnx.logit) > 1e-3, "logits that are all alike would prove nothing"
    np.testing.assert_allclose(onnx.logit, eager.logit, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(onnx.embedding, eager.embedding, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(onnx.probability, eager.probability, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [OnnxBackend, lambda bundle: TorchBackend(bundle, "cpu")])
def test_shapes_types_and_any_batch(kind: type[OnnxBackend], made_bundle: Bundle, stamps: Stamps) -> None:
    backend = kind(made_bundle)
    assert backend.device == "cpu"
    whole = backend.score(stamps)
    assert whole.logit.shape == (33,)
    assert whole.logit.dtype == whole.embedding.dtype == np.float32
    assert whole.embedding.shape == (33, 8)
    for count in (0, 1, 2, 7):
        part = backend.score(np.ascontiguousarray(stamps[:count]))
        np.testing.assert_allclose(part.logit, whole.logit[:count], rtol=1e-5, atol=1e-6)
        assert part.embedding.shape == (count, 8)


@pytest.mark.parametrize("kind", [OnnxBackend, lambda bundle: TorchBackend(bundle, "cpu")])
def test_takes_read_only_stamps_and_leaves_them_alone(
    kind: type[OnnxBackend], made_bundle: Bundle, stamps: Stamps
) -> None:
    lent = stamps.copy()
    lent.flags.writeable = False
    backend = kind(made_bundle)
    first, again = backend.score(lent), backend.score(lent)
    assert np.array_equal(first.logit, again.logit)
    assert np.array_equal(lent, stamps)


def test_scores_of_one_batch_outlive_the_next(made_bundle: Bundle, stamps: Stamps) -> None:
    backend = TorchBackend(made_bundle, "cpu")
    first = backend.score(stamps)
    kept = first.logit.copy()
    backend.score(stamps[::-1].copy())
    assert np.array_equal(first.logit, kept)


def test_temperature_divides_the_logit(made_bundle: Bundle) -> None:
    golden = made_bundle.golden()
    scores = OnnxBackend(made_bundle).score(golden.stamps)
    np.testing.assert_allclose(scores.logit * 0.8, golden.outputs["logit"], rtol=1e-5, atol=1e-6)


def test_cuda_where_there_is_none(made_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "cuda_devices", lambda: 0)
    with pytest.raises(ModelError, match="sees no CUDA device"):
        open_backend(made_bundle, "cuda")
    assert open_backend(made_bundle, "auto").device == "cpu"


def test_a_driver_that_torch_cannot_use_is_refused(
    made_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available():
        pytest.skip("torch can use CUDA here")
    monkeypatch.setattr(backends, "cuda_devices", lambda: 1)
    for device in ("cuda", "auto"):
        with pytest.raises(ModelError, match="torch cannot use it"):
            open_backend(made_bundle, device)
    assert open_backend(made_bundle, "cpu").device == "cpu"


def test_unknown_device(made_bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="'tpu': must be auto, cpu or cuda"):
        open_backend(made_bundle, "tpu")


def test_want_of_memory_is_told_apart(
    made_bundle: Bundle, stamps: Stamps, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OnnxBackend(made_bundle)

    def run(*_: object) -> None:
        raise RuntimeError(
            "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"
        )

    monkeypatch.setattr(backend, "_session", type("Session", (), {"run": run}))
    with pytest.raises(BatchTooLarge):
        backend.score(stamps)


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), BatchTooLarge),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
            BatchTooLarge,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceBroken),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceBroken),
        (RuntimeError("Given groups=1, weight of size [16, 3, 3, 3]"), ModelError),
    ],
)
def test_what_torch_raises_is_told_apart(error: RuntimeError, meaning: type[ModelError]) -> None:
    assert type(classified(error)) is meaning


def test_torch_on_stamps_of_another_depth_is_a_model_error(made_bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="torch: "):
        TorchBackend(made_bundle, "cpu").score(np.zeros((1, 2, 31, 31), np.float32))


on_cuda = pytest.mark.skipif(
    not backends.cuda_devices(), reason="no CUDA device here: the CUDA backend is not tried"
)


@on_cuda
def test_cuda_agrees_with_the_cpu(made_bundle: Bundle, stamps: Stamps) -> None:
    cuda, cpu = open_backend(made_bundle, "cuda"), OnnxBackend(made_bundle)
    assert cuda.device == "cuda:0"
    found, expected = cuda.score(stamps), cpu.score(stamps)
    for name in ("logit", "embedding", "groups"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4)


CUDA_BEYOND_ITS_SHARE = """
import sys
import numpy as np
from space2vec.workers.backends import BatchTooLarge, open_backend
from space2vec.workers.bundle import load_bundle

backend = open_backend(load_bundle(sys.argv[1]), "cuda", gpu_share=0.01)
stamps = np.random.default_rng(1).normal(size=(8, 3, 31, 31)).astype(np.float32)
before = backend.score(stamps)
try:
    backend.score(np.zeros((1 << 16, 3, 31, 31), np.float32))
except BatchTooLarge:
    assert np.array_equal(backend.score(stamps).logit, before.logit)
    print("held to its share")
"""

CUDA_AFTER_A_FAULT = """
import numpy as np
import torch
from space2vec.workers.torch_backend import classified

try:
    torch.zeros(4, device="cuda")[torch.tensor([10**6], device="cuda")].cpu()
except RuntimeError as error:
    print(type(classified(error)).__name__)
"""


@on_cuda
@pytest.mark.parametrize(
    ("code", "told"), [(CUDA_BEYOND_ITS_SHARE, "held to its share"), (CUDA_AFTER_A_FAULT, "DeviceBroken")]
)
def test_cuda_in_trouble(code: str, told: str, made_bundle: Bundle) -> None:
    """In a process of its own: shares and faults are a process's for good."""
    command = [sys.executable, "-c", code, str(made_bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == told, done.stderr


def test_stamps_of_another_shape_are_a_model_error(made_bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="ONNX Runtime"):
        OnnxBackend(made_bundle).score(np.zeros((1, 3, 30, 30), np.float32))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("kind", "transformer", "no network 'transformer'"),
        ("parameters", {"width": 8}, "does not fit core"),
        ("parameters", {"breadth": 8}, "architecture.parameters.breadth"),
    ],
)
def test_weights_that_do_not_fit(bundle_copy: Bundle, path: str, value: object, told: str) -> None:
    manifest = json.loads((bundle_copy.path / "manifest.json").read_bytes())
    manifest["architecture"][path] = value
    (bundle_copy.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=told):
        TorchBackend(load_bundle(bundle_copy.path), "cpu")


def test_pickled_weights_are_refused(bundle_copy: Bundle) -> None:
    pickled = io.BytesIO()
    torch.save({"weight": torch.zeros(1)}, pickled)
    (bundle_copy.path / "weights.safetensors").write_bytes(pickled.getvalue())
    manifest = json.loads((bundle_copy.path / "manifest.json").read_bytes())
    manifest["files"]["weights.safetensors"] = hashlib.sha256(pickled.getvalue()).hexdigest()
    (bundle_copy.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        TorchBackend(load_bundle(bundle_copy.path), "cpu")


def test_a_gpu_without_torch_is_told_not_worked_around(
    made_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "cuda_devices", lambda: 1)
    monkeypatch.setitem(sys.modules, "space2vec.workers.torch_backend", None)
    with pytest.raises(ModelError, match="torch is not installed"):
        open_backend(made_bundle)
    assert open_backend(made_bundle, "cpu").device == "cpu"
