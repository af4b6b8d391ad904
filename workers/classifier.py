"""The Ray actor that scores: one process, one device, batches over all stream workers."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, RayError

from space2vec.schemas.errors import ModelError
from space2vec.schemas.settings import ModelSettings, Settings
from space2vec.workers.backends import DeviceBroken, open_backend
from space2vec.workers.batcher import Batcher, largest_batch
from space2vec.workers.bundle import Bundle, check_golden
from space2vec.workers.histogram import Histogram
from space2vec.workers.manifest import GRAPH
from space2vec.workers.niceness import give_way
from space2vec.workers.scores import Scores

log = logging.getLogger(__name__)

START_TIMEOUT_S = 300.0
"""For all classifiers together; a cluster may have to bring up machines, and torch takes its time."""

_DRAIN_S = 0.05  # between two looks whether it is
_BATCH_ALERTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # upper bounds of batch sizes


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a classifier that serves says of itself.

    Attributes
    ----------
    device : str
        Where its network runs, as found after loading: ``cpu`` or ``cuda:0``, the first one visible to it.
    gpu_ids : tuple of str
        GPUs that Ray has pinned it to; fractions of one count as that one.
    cuda_visible_devices : str or None
        As the process sees it.
    sha256 : str
        Of the bundle's manifest.
    pid : int
        Its process.
    max_batch : int
        Largest batch it takes: as set, or what its device's memory held at the start.
    """

    device: str
    gpu_ids: tuple[str, ...]
    cuda_visible_devices: str | None
    sha256: str
    pid: int
    max_batch: int


@dataclass(frozen=True, slots=True)
class ClassifierStatus:
    """What a classifier has done since its process began.

    Attributes
    ----------
    pid : int
        Its process; another one after a restart, with everything counted from nothing.
    device : str
        Where its network runs.
    batches : Histogram
        Alerts per batch scored.
    busy_s : float
        Seconds spent scoring.
    """

    pid: int
    device: str
    batches: Histogram
    busy_s: float


class Classifier:
    """Scores stamps on one device; started by :func:`start_classifiers`.

    It serves only after its bundle's golden vectors came out right on the device asked for, and after a largest batch
    of nothing, which is halved until the device's memory holds it. Calls of several stream
    workers are batched together. A CUDA context that broke ends the process, so that Ray starts a new one:
    every later call to CUDA in this one would fail too.

    Parameters
    ----------
    bundle : bytes
        A reference to a :class:`Bundle` with its files, as Ray's own pickle writes it: so a restart serves what was
        served before.
    device : {'cpu', 'cuda'}
        Where to run.
    settings : ModelSettings
        Batching and threads.
    gpu_share : float
        Part of its GPU's memory that is its own.
    nice : int
        By how much it gives way to other processes; a restart too.

    Raises
    ------
    ModelError
        If the bundle is wrong, the device is not there, or the golden vectors come out differently.
    """

    def __init__(
        self, bundle: bytes, device: str, settings: ModelSettings, gpu_share: float = 1.0, nice: int = 0
    ) -> None:
        give_way(nice)
        # Blocking is right here: the event loop has nothing else to do yet.
        os.environ.setdefault("RAY_WARN_BLOCKING_GET_INSIDE_ASYNC", "0")
        self._bundle: Bundle = ray.get(ray.cloudpickle.loads(bundle))
        spec = self._bundle.manifest.input
        self._shape = (len(spec.planes), spec.size, spec.size)
        self._gpu_ids = tuple(str(gpu) for gpu in ray.get_gpu_ids())
        self._backend = open_backend(self._bundle, device, settings.threads, gpu_share)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if device == "cuda" and visible != ",".join(self._gpu_ids):
            raise ModelError(f"pinned to GPU {self._gpu_ids}, but CUDA_VISIBLE_DEVICES is {visible!r}")
        if not self._backend.device.startswith(device):
            raise ModelError(f"asked for {device}, the network runs on {self._backend.device}")
        failed = [check for check in check_golden(self._bundle, self._backend) if not check.ok]
        if failed:
            told = "; ".join(f"{check.name}: {check.detail}" for check in failed)
            raise ModelError(f"{self._bundle.path}: golden vectors come out differently: {told}")
        self._max_batch = largest_batch(self._backend.score, self._shape, settings.max_batch)
        if self._max_batch < settings.max_batch:
            log.warning(
                "%s: its memory holds batches of %d alerts, not of the %d set as model.max_batch",
                self._backend.device,
                self._max_batch,
                settings.max_batch,
            )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._batches = Histogram(_BATCH_ALERTS)
        self._busy_s = 0.0
        self._in_hand = 0
        self._batcher = Batcher(self._run, self._max_batch, settings.max_wait_ms / 1000)

    async def score(self, stamps: NDArray[np.float32]) -> Scores:
        """Score network inputs, ``(N, P, S, S)`` float32 in C order, of any N.

        Raises
        ------
        ModelError
            If these stamps have another shape than the network takes, or cannot be scored.
        """
        if stamps.shape[1:] != self._shape or stamps.dtype != np.float32:
            raise ModelError(
                f"stamps are {stamps.shape} {stamps.dtype}, the network takes (N, *{self._shape}) float32"
            )
        self._in_hand += 1
        try:
            return await self._batcher.score(stamps)
        finally:
            self._in_hand -= 1

    async def drained(self) -> None:
        """Answer as soon as nothing is in hand."""
        while self._in_hand:
            await asyncio.sleep(_DRAIN_S)

    async def ready(self) -> Readiness:
        """Answer as soon as the classifier serves."""
        return Readiness(
            self._backend.device,
            self._gpu_ids,
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            self._bundle.sha256,
            os.getpid(),
            self._max_batch,
        )

    async def status(self) -> ClassifierStatus:
        """How much it has scored."""
        return ClassifierStatus(os.getpid(), self._backend.device, self._batches, self._busy_s)

    async def _run(self, stamps: NDArray[np.float32]) -> Scores:
        # In a thread of its own, so that calls arrive while a batch is scored.
        try:
            began = time.perf_counter()
            scores = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._backend.score, stamps
            )
            self._busy_s += time.perf_counter() - began
            self._batches.observe(len(stamps))
            return scores
        except DeviceBroken as error:
            log.critical("device lost, ending the process so that Ray starts another: %s", error)
            # Neither an exception nor exit_actor: Ray restarts only what looks like a crash.
            os._exit(1)


def start_classifiers(
    bundle: Bundle, count: int, settings: Settings, nice: int = 0, timeout_s: float = START_TIMEOUT_S
) -> list[Any]:
    """Start classifiers in the Ray that this process has joined, and wait until all of them serve.

    Ray restarts one that dies, without end; a call that was with it fails with a ``RayError`` and is
    the caller's to repeat, here or at another classifier, since only the caller can tell stamps that kill
    from bad luck.

    Parameters
    ----------
    bundle : Bundle
        Goes to the classifiers with its files; no node needs its folder.
    count : int
        How many.
    settings : Settings
        ``model`` and ``ray``. With ``gpus_per_classifier`` above 0, each is pinned to its GPU or share of one, and must
        run there unless ``device`` says ``cpu``; without, all run on the CPU, as those of a bundle without weights
        always do.
    nice : int
        By how much they give way to other processes.
    timeout_s : float
        For all to be ready.

    Returns
    -------
    list of actor handles
        Of :class:`Classifier`.

    Raises
    ------
    ModelError
        If one of them cannot serve, or not in time; none is left running then.
    """
    graph_only = bundle.manifest.architecture.kind == GRAPH
    gpus = 0.0 if graph_only else settings.ray.gpus_per_classifier
    device = "cpu" if graph_only else _device(settings)
    # Spread, so that a lost node takes few of them along: Ray would fill one node first, and maybe with all of them.
    actor = ray.remote(Classifier).options(
        num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD"
    )
    # Ray starts one again from its arguments, but drops an argument of this size when nobody refers to it any more.
    # What it has pickled a reference to, it keeps as long as this process lives.
    held = ray.cloudpickle.dumps(ray.put(bundle.held()))
    classifiers = [
        actor.remote(held, device, settings.model, min(gpus, 1.0) or 1.0, nice) for _ in range(count)
    ]
    try:
        for readiness in ray.get(
            [classifier.ready.remote() for classifier in classifiers], timeout=timeout_s
        ):
            if gpus and not readiness.gpu_ids:
                raise ModelError(f"classifier {readiness.pid} is not pinned to a GPU")
    except (RayError, ModelError) as error:
        for classifier in classifiers:
            ray.kill(classifier)
        raise _told(error, timeout_s, gpus) from error
    return classifiers


def _device(settings: Settings) -> str:
    """Decide the device by what is asked for, never by what happens to be visible."""
    asked, gpus = settings.model.device, settings.ray.gpus_per_classifier
    if asked == "cuda" and not gpus:
        raise ModelError(
            "model.device is cuda, but ray.gpus_per_classifier is 0: no classifier would have a GPU"
        )
    if asked == "auto":
        return "cuda" if gpus else "cpu"
    return asked


def _told(error: Exception, timeout_s: float, gpus: float) -> ModelError:
    """Make of what Ray raised one line that says why a classifier does not serve."""
    if isinstance(error, ModelError):
        return error
    if isinstance(error, GetTimeoutError):
        have = ray.cluster_resources()
        return ModelError(
            f"classifiers not ready after {timeout_s:g} s; each needs 1 CPU and {gpus:g} GPUs, "
            f"the cluster has {have.get('CPU', 0):g} and {have.get('GPU', 0):g} in all"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = next((line for line in reversed(lines) if "Error: " in line), lines[-1])
    return ModelError(f"a classifier cannot start: {cause.partition('Error: ')[2] or cause}")
