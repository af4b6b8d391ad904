"""Backends: what runs a bundle's network. ONNX Runtime on CPUs, torch on CUDA."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.errors import ModelError
from space2vec.workers.manifest import GRAPH
from space2vec.workers.scores import Scores, calibrated

if TYPE_CHECKING:
    from space2vec.workers.bundle import Bundle

CPU_PROVIDER = "CPUExecutionProvider"


class BatchTooLarge(ModelError):
    """The device's memory does not hold a batch of this size; a smaller one may pass."""


class DeviceBroken(ModelError):
    """The device is in a state that only a new process gets out of (a CUDA context after a fault)."""


class Backend(Protocol):
    """Scores stamps on one device."""

    @property
    def device(self) -> str:
        """Where the network really runs: ``cpu``, ``cuda:0``."""

    def score(self, stamps: NDArray[np.float32]) -> Scores:
        """Score network inputs.

        Parameters
        ----------
        stamps : (N, P, S, S) float32, C order
            As :class:`space2vec.workers.preprocess.Preprocessor` makes them; may be read-only.

        Raises
        ------
        BatchTooLarge
            If the device's memory does not hold them.
        DeviceBroken
            If the process has lost the device.
        """


def open_backend(bundle: Bundle, device: str = "auto", threads: int = 1, gpu_share: float = 1.0) -> Backend:
    """Load a bundle's network on a device.

    Parameters
    ----------
    bundle : Bundle
        From :func:`space2vec.workers.bundle.load_bundle`.
    device : {'auto', 'cpu', 'cuda'}
        ``auto`` takes CUDA where this process sees a CUDA device, and the bundle has weights for it.
    threads : int
        CPU threads of one call.
    gpu_share : float
        Part of a CUDA device's memory that this process may take; nothing to a CPU.

    Raises
    ------
    ModelError
        If the device is not there, or the bundle's network cannot be loaded on it.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ModelError(f"device {device!r}: must be auto, cpu or cuda")
    if bundle.manifest.architecture.kind == GRAPH and device == "cuda":
        raise ModelError(f"{bundle.path}: has a graph and no weights: it runs on the CPU only")
    visible = 0 if device == "cpu" or bundle.manifest.architecture.kind == GRAPH else cuda_devices()
    if device == "cuda" and not visible:
        raise ModelError("device cuda: this process sees no CUDA device")
    if visible:
        # Not at the top: torch takes seconds and 300 MB, and the CPU path does without.
        try:
            from space2vec.workers.torch_backend import TorchBackend
        except ModuleNotFoundError as error:
            raise ModelError(
                "a CUDA device is visible, but torch is not installed (the image for CPUs has none): take the CPU"
            ) from error
        return TorchBackend(bundle, "cuda", threads, gpu_share)
    return OnnxBackend(bundle, threads)


def cuda_devices() -> int:
    """How many CUDA devices this process sees, as the driver counts them (CUDA_VISIBLE_DEVICES included)."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


class OnnxBackend:
    """ONNX Runtime on the CPU.

    Parameters
    ----------
    bundle : Bundle
        Its ``graph`` is loaded.
    threads : int
        Threads of one call; they sleep in between, so that stream workers on the same cores are not slowed down.
    """

    device = "cpu"

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        import onnxruntime

        manifest = bundle.manifest
        where = bundle.path / manifest.graph
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            # From bytes that match their digest; so a graph cannot refer to other files either.
            self._session = onnxruntime.InferenceSession(
                bundle.read(manifest.graph), options, providers=[CPU_PROVIDER]
            )
        except ModelError:
            raise
        except Exception as error:  # onnxruntime's own exceptions share no base but Exception
            raise ModelError(f"{where}: {error}") from error
        if self._session.get_providers() != [CPU_PROVIDER]:
            raise ModelError(f"{where}: runs on {self._session.get_providers()}, not on the CPU")
        inputs = [node.name for node in self._session.get_inputs()]
        outputs = [node.name for node in self._session.get_outputs()]
        expected = manifest.outputs.names
        if inputs != ["stamps"] or outputs != expected:
            raise ModelError(
                f"{where}: takes {inputs} and gives {outputs}, not stamps to {' and '.join(expected)}"
            )
        self._manifest = manifest

    def score(self, stamps: NDArray[np.float32]) -> Scores:
        """Score network inputs; see :class:`Backend`."""
        try:
            returned = self._session.run(self._manifest.outputs.names, {"stamps": stamps})
        except Exception as error:
            raise _classified(error) from error
        return calibrated(returned, self._manifest)


def _classified(error: Exception) -> ModelError:
    text = str(error)
    if isinstance(error, MemoryError) or "Failed to allocate memory" in text or "bad_alloc" in text:
        return BatchTooLarge(text)
    return ModelError(f"ONNX Runtime: {text}")
