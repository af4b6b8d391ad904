"""The torch backend: CUDA, and the CPU for comparison with ONNX Runtime."""

from __future__ import annotations

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
    """

    def __init__(self, bundle: Bundle, device: Literal["cpu", "cuda"], threads: int = 1) -> None:
        manifest = bundle.manifest
        torch.set_num_threads(threads)
        # TF32 would move logits by 1e-3, and scores must be the same everywhere.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self._torch_device = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
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
            network.to(self._torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
            raise ModelError(f"device {device}: torch cannot use it: {error}") from error
        self._network = network
        self._manifest = manifest
        self._staging = torch.empty(0, pin_memory=False)
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
                fed = self._stage(stamps).to(
                    self._torch_device, non_blocking=True, memory_format=torch.channels_last
                )
                # .cpu() waits for the stream, so the staging buffer is free again afterwards.
                returned = [tensor.float().cpu().numpy() for tensor in self._network(fed)]
            return calibrated(returned, self._manifest)
        except RuntimeError as error:
            raise classified(error) from error

    def _stage(self, stamps: NDArray[np.float32]) -> torch.Tensor:
        """Copy the stamps, which Ray hands over read-only, to where they can be sent from: pinned for CUDA."""
        if self._staging.numel() < stamps.size:
            self._staging = torch.empty(stamps.size, pin_memory=self._torch_device.type == "cuda")
        staged = self._staging[: stamps.size].view(stamps.shape)
        np.copyto(staged.numpy(), stamps)
        return staged


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
