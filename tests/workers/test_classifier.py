from __future__ import annotations

import gc
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from space2vec.schemas.errors import ModelError
from space2vec.schemas.settings import ModelSettings, RaySettings, Settings
from space2vec.workers.backends import OnnxBackend, cuda_devices
from space2vec.workers.bundle import Bundle, load_bundle
from space2vec.workers.preprocess import normalise_triplets

Stamps = NDArray[np.float32]

pytestmark = pytest.mark.ray


def settings_for(gpus: float = 0.0, **model: Any) -> Settings:
    return Settings(
        model=ModelSettings(**({"device": "cpu", "max_batch": 16, "max_wait_ms": 5.0} | model)),
        ray=RaySettings(gpus_per_classifier=gpus),
    )


@pytest.fixture
def start(ray_cluster: Any, made_bundle: Bundle) -> Iterator[Callable[..., list[Any]]]:
    """Start classifiers; they are gone, and what they held is free, when the test ends."""
    from space2vec.workers.classifier import start_classifiers

    started: list[Any] = []

    def start_some(count: int = 1, bundle: Bundle = made_bundle, nice: int = 0, **options: Any) -> list[Any]:
        started.extend(start_classifiers(bundle, count, settings_for(**options), nice, timeout_s=60))
        return started[-count:]

    yield start_some
    for classifier in started:
        ray_cluster.kill(classifier)
    deadline = time.monotonic() + 30
    while ray_cluster.available_resources().get("GPU", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def stamps(made_bundle: Bundle, make_triplets: Callable[..., Stamps]) -> Stamps:
    return normalise_triplets(make_triplets(100, seed=8), made_bundle.manifest.input)


def test_scores_as_the_backend_does(
    start: Callable[..., list[Any]], ray_cluster: Any, made_bundle: Bundle, stamps: Stamps
) -> None:
    (classifier,) = start()
    expected = OnnxBackend(made_bundle).score(stamps)
    calls = [classifier.score.remote(stamps[i : i + 10]) for i in range(0, 100, 10)]
    for call, start_row in zip(calls, range(0, 100, 10), strict=True):
        scores = ray_cluster.get(call)
        ours = expected.slice(start_row, start_row + 10)
        np.testing.assert_allclose(scores.logit, ours.logit, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scores.embedding, ours.embedding, rtol=1e-5, atol=1e-6)
    large = ray_cluster.get(classifier.score.remote(stamps))  # by way of the object store, so read-only there
    np.testing.assert_allclose(large.logit, expected.logit, rtol=1e-5, atol=1e-6)
    assert len(ray_cluster.get(classifier.score.remote(stamps[:0]))) == 0


def test_stamps_of_another_shape_are_refused_and_harm_no_one(
    start: Callable[..., list[Any]], ray_cluster: Any, stamps: Stamps
) -> None:
    (classifier,) = start()
    good = classifier.score.remote(stamps[:3])
    for wrong in (stamps[:, :2], stamps[..., :30], stamps.astype(np.float64)):
        with pytest.raises(ModelError, match="the network takes"):
            ray_cluster.get(classifier.score.remote(wrong))
    assert len(ray_cluster.get(good)) == 3


def test_two_logical_gpus_each_classifier_sees_its_own(
    start: Callable[..., list[Any]], ray_cluster: Any, made_bundle: Bundle
) -> None:
    ready = ray_cluster.get([classifier.ready.remote() for classifier in start(2, gpus=1.0)])
    assert {each.gpu_ids for each in ready} == {("0",), ("1",)}
    assert all(each.cuda_visible_devices == ",".join(each.gpu_ids) for each in ready)
    assert all((each.device, each.sha256) == ("cpu", made_bundle.sha256) for each in ready)
    assert len({each.pid for each in ready}) == 2


def test_two_classifiers_may_share_a_gpu(start: Callable[..., list[Any]], ray_cluster: Any) -> None:
    ready = ray_cluster.get([classifier.ready.remote() for classifier in start(2, gpus=0.5)])
    assert all(len(each.gpu_ids) == 1 for each in ready)


def test_without_gpus_none_is_pinned(start: Callable[..., list[Any]], ray_cluster: Any) -> None:
    (ready,) = ray_cluster.get([classifier.ready.remote() for classifier in start(device="auto")])
    assert (ready.gpu_ids, ready.device) == ((), "cpu")


def test_pinned_to_a_gpu_without_cuda_is_refused(start: Callable[..., list[Any]]) -> None:
    if cuda_devices():
        pytest.skip("CUDA is here: nothing to refuse")
    with pytest.raises(
        ModelError, match="a classifier cannot start: device cuda: this process sees no CUDA device"
    ):
        start(gpus=1.0, device="auto")


def test_cuda_without_a_gpu_to_be_pinned_to_is_refused(start: Callable[..., list[Any]]) -> None:
    with pytest.raises(ModelError, match="gpus_per_classifier is 0"):
        start(device="cuda")


def test_more_gpus_than_there_are(ray_cluster: Any, made_bundle: Bundle) -> None:
    from space2vec.workers.classifier import start_classifiers

    with pytest.raises(ModelError, match=r"needs 1 CPU and 5 GPUs, the cluster has \d+ and 2 in all"):
        start_classifiers(made_bundle, 1, settings_for(gpus=5), timeout_s=1.0)


def test_bundle_whose_golden_vectors_come_out_differently_is_refused(
    start: Callable[..., list[Any]], bundle_copy: Bundle
) -> None:
    import hashlib
    import json

    import safetensors.numpy

    golden = safetensors.numpy.load(bundle_copy.read("golden.safetensors"))
    golden["logit"] = golden["logit"] + 0.01
    content = safetensors.numpy.save(golden)
    (bundle_copy.path / "golden.safetensors").write_bytes(content)
    manifest = json.loads((bundle_copy.path / "manifest.json").read_bytes())
    manifest["files"]["golden.safetensors"] = hashlib.sha256(content).hexdigest()
    (bundle_copy.path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="golden vectors come out differently: logits on cpu"):
        start(bundle=load_bundle(bundle_copy.path))


def test_a_restart_serves_the_bundle_that_was_served_whatever_became_of_its_folder(
    start: Callable[..., list[Any]], ray_cluster: Any, tmp_path: Path, stamps: Stamps
) -> None:
    bundle = load_bundle(shutil.copytree(load_bundle("core").path, tmp_path / "copy"))
    assert sum(map(len, bundle.held().contents.values())) > 100_000  # what Ray keeps apart from the call
    (classifier,) = start(bundle=bundle)
    before = ray_cluster.get(classifier.ready.remote())
    shutil.rmtree(bundle.path)
    gc.collect()
    os.kill(before.pid, signal.SIGKILL)
    after = await_return(ray_cluster, classifier, before.pid)
    assert after.sha256 == before.sha256
    assert len(ray_cluster.get(classifier.score.remote(stamps[:5]))) == 5


def await_return(ray_cluster: Any, classifier: Any, former: int) -> Any:
    """Wait until a classifier serves from another process than the former; how it is then."""
    deadline = time.monotonic() + 60
    while True:
        try:
            ready = ray_cluster.get(classifier.ready.remote(), timeout=30)
            if ready.pid != former:
                return ready
        except ray_cluster.exceptions.RayError:
            assert time.monotonic() < deadline, "not restarted"
            time.sleep(0.1)


def test_killed_classifier_comes_back_and_checks_itself_again(
    start: Callable[..., list[Any]], ray_cluster: Any, stamps: Stamps
) -> None:
    (classifier,) = start(nice=18)
    before = ray_cluster.get(classifier.ready.remote())
    os.kill(before.pid, signal.SIGKILL)
    after = await_return(ray_cluster, classifier, before.pid)
    assert after.sha256 == before.sha256
    assert len(ray_cluster.get(classifier.score.remote(stamps[:5]))) == 5
    assert {os.getpriority(os.PRIO_PROCESS, process) for process in threads(after.pid)} == {18}


def threads(process: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]


@pytest.fixture
def alone(made_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a classifier without Ray around it."""
    import ray

    from space2vec.workers.classifier import Classifier

    monkeypatch.setattr("ray.get_gpu_ids", list)
    monkeypatch.setattr("ray.get", {"its reference": made_bundle}.get)
    return lambda **model: Classifier(ray.cloudpickle.dumps("its reference"), "cpu", ModelSettings(**model))


def test_no_batch_is_larger_than_memory_held_at_the_start(
    made_bundle: Bundle,
    stamps: Stamps,
    alone: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import asyncio

    from space2vec.workers.backends import BatchTooLarge

    class Small(OnnxBackend):
        def score(self, stamps: Stamps) -> Any:
            if len(stamps) > 40:
                raise BatchTooLarge("no room")
            return super().score(stamps)

    monkeypatch.setattr(
        "space2vec.workers.classifier.open_backend", lambda bundle, device, threads, share: Small(bundle)
    )

    async def main() -> tuple[Any, Any, Any]:
        classifier = alone(max_batch=128)
        return await classifier.score(stamps), await classifier.ready(), await classifier.status()

    scores, ready, status = asyncio.run(main())
    assert ready.max_batch == 32
    assert "holds batches of 32 alerts, not of the 128 set as model.max_batch" in caplog.text
    assert status.batches.count == 4  # of 100 alerts
    np.testing.assert_allclose(scores.logit, OnnxBackend(made_bundle).score(stamps).logit, rtol=1e-5)


def test_broken_device_ends_the_process(
    stamps: Stamps, alone: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Ray around it: what counts is that the process ends, and how."""
    import asyncio

    from space2vec.workers.backends import DeviceBroken

    class Ended(BaseException):
        pass

    def end(status: int) -> None:
        raise Ended(status)

    def break_down(_: Stamps) -> None:
        raise DeviceBroken("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(os, "_exit", end)

    async def main() -> None:
        classifier = alone()
        monkeypatch.setattr(classifier._backend, "score", break_down)
        await classifier._run(stamps)

    with pytest.raises(Ended, match="1"):
        asyncio.run(main())


@pytest.mark.skipif(not cuda_devices(), reason="no CUDA device here: a classifier on CUDA is not tried")
def test_on_a_share_of_a_real_gpu(
    start: Callable[..., list[Any]], ray_cluster: Any, make_triplets: Callable[..., Stamps]
) -> None:
    core = load_bundle("core")
    (classifier,) = start(bundle=core, gpus=0.02, device="auto", max_batch=1 << 16)
    ready = ray_cluster.get(classifier.ready.remote())
    assert (ready.device, len(ready.gpu_ids)) == ("cuda:0", 1)
    assert ready.max_batch < 1 << 16  # 65,536 alerts take 9 GB
    stamps = normalise_triplets(make_triplets(100, seed=8), core.manifest.input)
    many = np.tile(stamps, (2 * ready.max_batch // len(stamps) + 1, 1, 1, 1))
    found = ray_cluster.get(classifier.score.remote(many)).logit.reshape(-1, len(stamps))
    expected = OnnxBackend(core).score(stamps).logit
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-4, atol=1e-4)
