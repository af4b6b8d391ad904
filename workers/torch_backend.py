"""The torch backend: CUDA, and the CPU for comparison with ONNX Runtime."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import BatchTooLarge, DeviceBroken
from space2vec.workers.networks import build_network
from space2vec.workers.scores import Scores, calibrated

if TYPE_CHECKING:
    from space2vec.workers.bundle import Bundle


class TorchBackend:
    """A bundle's network in torch.

    Parameters
    ----------
    bundle : Bundle
        Its ``weights`` are loaded into the network that its ``architecture`` names.
    device : {'cpu', 'cuda'}
        CUDA means the first device this process sees.
    threads : int
        CPU threads of one call.
    gpu_share : float
        Part of the device's memory that torch may take in this process, above 0 and at most 1; CUDA's own context,
        0.7 GB on an H100, comes on top.
    """

    def __init__(
        self, bundle: Bundle, device: Literal["cpu", "cuda"], threads: int = 1, gpu_share: float = 1.0
    ) -> None:
        manifest = bundle.manifest
        torch.set_num_threads(threads)
        # TF32 moves logits by up to 0.02 (docs/performance.md), and scores must be the same everywhere.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self._torch_device = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
        # Each is twice as fast as the other way on its device, in single precision (docs/performance.md).
        self._layout = torch.contiguous_format if device == "cuda" else torch.channels_last
        network = build_network(manifest.architecture, manifest.input, manifest.outputs)
        where = bundle.path / manifest.weights
        try:
            state = safetensors.torch.load(bundle.read(manifest.weights))
        except SafetensorError as error:
            raise ModelError(f"{where}: {error}") from error
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise ModelError(f"{where}: does not fit {manifest.architecture.kind}: {error}") from error
        try:
            # torch's stubs do not know memory_format here.
            network.to(self._torch_device, memory_format=self._layout)  # type: ignore[call-overload]
            if device == "cuda":
                torch.cuda.set_per_process_memory_fraction(gpu_share, self._torch_device)
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
            raise ModelError(f"device {device}: torch cannot use it: {error}") from error
        self._network = network
        self._manifest = manifest
        used = {tensor.device for tensor in (*self._network.parameters(), *self._network.buffers())}
        if used != {self._torch_device}:
            raise ModelError(f"{where}: the network is on {used}, not on {self._torch_device}")

    @property
    def device(self) -> str:
        """Where the network really runs."""
        return str(self._torch_device)

    def score(self, stamps: NDArray[np.float32]) -> Scores:
        """Score network inputs; see :class:`space2vec.workers.backends.Backend`."""
        try:
            with torch.inference_mode():
                fed = _tensor(stamps).to(self._torch_device, memory_format=self._layout)
                returned = [tensor.float().cpu().numpy() for tensor in self._network(fed)]
            return calibrated(returned, self._manifest)
        except RuntimeError as error:
            raise classified(error) from error


def _tensor(stamps: NDArray[np.float32]) -> torch.Tensor:
    """The stamps as torch sees them, where they lie.

    No pinned buffer in between: filling one costs more on one thread than the driver's own copy does.
    """
    with warnings.catch_warnings():
        # Ray hands arrays over read-only, and nothing here writes to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(stamps)


def classified(error: RuntimeError) -> ModelError:
    """Say what torch's error means for us: too little memory, a device lost to this process, or just an error.

    CUDA's errors are sticky: after one, every later call of the process fails too. Its libraries report want of
    memory by status, before torch's allocator notices.
    """
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError) or "STATUS_ALLOC_FAILED" in text:
        torch.cuda.empty_cache()
        return BatchTooLarge(text)
    if "CUDA error" in text or "cuDNN error" in text:
        return DeviceBroken(text)
    return ModelError(f"torch: {text}")
