from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import BatchTooLarge
from space2vec.workers.batcher import GROW_AFTER, Batcher, largest_batch
from space2vec.workers.scores import Scores

Stamps = NDArray[np.float32]


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is left to do."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        timers = [timer for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and timers:  # type: ignore[attr-defined]
            self._now = max(self._now, min(timer.when() for timer in timers))
        super()._run_once()  # type: ignore[misc]


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main())


class FakeBackend:
    """Scores a stamp by its only pixel; some pixels fail it, and it holds only so many at once."""

    def __init__(self, seconds: float = 0.0, bad: Sequence[float] = (), memory: int = 10**9) -> None:
        self.seconds, self.bad, self.memory = seconds, frozenset(bad), memory
        self.batches: list[tuple[float, list[float]]] = []

    async def score(self, stamps: Stamps) -> Scores:
        pixels = stamps[:, 0, 0, 0]
        self.batches.append((asyncio.get_running_loop().time(), pixels.tolist()))
        await asyncio.sleep(self.seconds)
        if len(stamps) > self.memory:
            raise BatchTooLarge("no room")
        if wrong := self.bad.intersection(pixels.tolist()):
            raise ModelError(f"cannot score {min(wrong)}")
        return Scores(pixels * 2, np.stack([pixels, -pixels], axis=1), np.stack([pixels], axis=1), pixels / 2)

    @property
    def sizes(self) -> list[int]:
        return [len(pixels) for _, pixels in self.batches]


def stamps_of(pixels: Sequence[float]) -> Stamps:
    return np.asarray(pixels, np.float32).reshape(-1, 1, 1, 1)


async def call_at(batcher: Batcher, when: float, pixels: Sequence[float]) -> Any:
    """Scores or the error, and when they came."""
    await asyncio.sleep(when)
    try:
        answer: Any = await batcher.score(stamps_of(pixels))
    except ModelError as error:
        answer = error
    return answer, asyncio.get_running_loop().time()


def play(
    backend: FakeBackend, max_batch: int, max_wait: float, calls: Sequence[tuple[float, Sequence[float]]]
) -> Any:
    async def main() -> Any:
        batcher = Batcher(backend.score, max_batch, max_wait)
        return await asyncio.gather(*(call_at(batcher, when, pixels) for when, pixels in calls))

    return run(main)


def assert_scores(answer: Any, pixels: Sequence[float]) -> None:
    assert isinstance(answer, Scores), answer
    assert answer.logit.tolist() == [2 * pixel for pixel in pixels]
    assert answer.embedding.tolist() == [[pixel, -pixel] for pixel in pixels]
    assert answer.spread is not None
    assert answer.spread.tolist() == [pixel / 2 for pixel in pixels]


def numbered(sizes: Sequence[int]) -> list[list[float]]:
    """Distinct pixels, so many for each call."""
    ends = np.cumsum([0, *sizes])
    return [list(map(float, range(start + 1, stop + 1))) for start, stop in pairwise(ends)]


def test_waits_no_longer_than_asked() -> None:
    backend = FakeBackend()
    ((answer, when),) = play(backend, 8, 0.5, [(0.0, [1.0, 2.0])])
    assert_scores(answer, [1.0, 2.0])
    assert when == 0.5
    assert backend.sizes == [2]


def test_full_batch_goes_at_once() -> None:
    backend = FakeBackend()
    answers = play(backend, 4, 60.0, [(0.0, [1.0, 2.0]), (1.0, [3.0, 4.0])])
    assert [when for _, when in answers] == [1.0, 1.0]
    assert backend.sizes == [4]


def test_the_oldest_call_sets_the_time() -> None:
    backend = FakeBackend()
    answers = play(backend, 100, 1.0, [(0.0, [1.0]), (0.9, [2.0]), (1.5, [3.0])])
    assert [when for _, when in answers] == [1.0, 1.0, 2.5]
    assert backend.sizes == [2, 1]


def test_a_large_call_is_split_and_joined() -> None:
    backend = FakeBackend()
    (pixels,) = numbered([23])
    ((answer, _),) = play(backend, 10, 0.1, [(0.0, pixels)])
    assert_scores(answer, pixels)
    assert backend.sizes == [10, 10, 3]


def test_calls_gather_while_a_batch_is_scored() -> None:
    backend = FakeBackend(seconds=5.0)
    calls = [(0.1 * i, [float(i + 1)]) for i in range(8)]
    answers = play(backend, 8, 0.01, calls)
    assert backend.sizes == [1, 7]
    for (answer, _), (_, pixels) in zip(answers, calls, strict=True):
        assert_scores(answer, pixels)


def test_empty_call() -> None:
    ((answer, when),) = play(FakeBackend(), 8, 5.0, [(0.0, [])])
    assert (len(answer), when) == (0, 0.0)


def test_error_reaches_only_the_call_it_concerns() -> None:
    backend = FakeBackend(bad=[3.0])
    answers = play(backend, 8, 0.1, [(0.0, [1.0, 2.0]), (0.0, [3.0, 4.0]), (0.0, [5.0])])
    assert_scores(answers[0][0], [1.0, 2.0])
    assert isinstance(answers[1][0], ModelError)
    assert_scores(answers[2][0], [5.0])
    assert backend.sizes == [5, 2, 2, 1]


def test_rest_of_a_failed_call_is_not_scored() -> None:
    backend = FakeBackend(bad=[1.0])
    pixels, other = numbered([10, 2])
    answers = play(backend, 4, 0.1, [(0.0, pixels), (0.0, other)])
    assert isinstance(answers[0][0], ModelError)
    assert_scores(answers[1][0], other)
    assert backend.sizes == [4, 2]


def test_call_given_up_by_its_caller_is_left_out() -> None:
    backend = FakeBackend()

    async def main() -> Any:
        batcher = Batcher(backend.score, 8, 1.0)
        given_up = asyncio.create_task(batcher.score(stamps_of([1.0])))
        kept = asyncio.create_task(batcher.score(stamps_of([2.0])))
        await asyncio.sleep(0.5)
        given_up.cancel()
        return await kept

    assert_scores(run(main), [2.0])
    assert backend.batches == [(1.0, [2.0])]


def test_want_of_memory_halves_down_to_what_fits() -> None:
    backend = FakeBackend(memory=3)
    (pixels,) = numbered([16])
    ((answer, _),) = play(backend, 16, 0.0, [(0.0, pixels)])
    assert_scores(answer, pixels)
    assert backend.sizes == [16, 8, 4, 2, 2, 4, 2, 2, 8, 4, 2, 2, 4, 2, 2]


def test_want_of_memory_for_a_single_row_is_an_error() -> None:
    ((answer, _),) = play(FakeBackend(memory=0), 4, 0.0, [(0.0, [1.0, 2.0])])
    assert isinstance(answer, BatchTooLarge)


def test_batches_stay_small_after_want_of_memory_and_grow_again() -> None:
    backend = FakeBackend(memory=4)
    (pixels,) = numbered([8 + 4 * GROW_AFTER + 16])

    async def main() -> Scores:
        batcher = Batcher(backend.score, 8, 0.0)
        first = await batcher.score(stamps_of(pixels[:8]))
        assert backend.sizes == [8, 4, 4]
        await batcher.score(stamps_of(pixels[8:]))
        return first

    assert_scores(run(main), pixels[:8])
    # The two halves count; a hundredth batch of 4 is the time to try 8 again, which fails again.
    assert backend.sizes[3 : 3 + GROW_AFTER - 2] == [4] * (GROW_AFTER - 2)
    assert backend.sizes[3 + GROW_AFTER - 2 :][:3] == [8, 4, 4]


def test_wrong_number_of_scores_is_an_error() -> None:
    async def short(stamps: Stamps) -> Scores:
        nothing = np.zeros((len(stamps) - 1, 0), np.float32)
        return Scores(np.zeros(len(stamps) - 1, np.float32), nothing, nothing)

    async def main() -> Scores:
        return await Batcher(short, 4, 0.0).score(stamps_of([1.0, 2.0]))

    with pytest.raises(ModelError, match="1 scores for 2 stamps"):
        run(main)


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    gaps=st.lists(st.floats(0.001, 2), min_size=12, max_size=12),
    max_batch=st.integers(1, 10),
    max_wait=st.sampled_from([0.0, 0.3, 1.0]),
    seconds=st.sampled_from([0.0, 0.1, 3.0]),
    memory=st.sampled_from([10**9, 7, 1]),
    bad=st.sets(st.integers(1, 140), max_size=3),
)
def test_every_call_gets_its_own(
    sizes: list[int],
    gaps: list[float],
    max_batch: int,
    max_wait: float,
    seconds: float,
    memory: int,
    bad: set[int],
) -> None:
    backend = FakeBackend(seconds, [float(pixel) for pixel in bad], memory)
    times = np.cumsum(gaps[: len(sizes)])
    calls = list(zip(times.tolist(), numbered(sizes), strict=True))
    answers = play(backend, max_batch, max_wait, calls)
    for (answer, _), (_, pixels) in zip(answers, calls, strict=True):
        if bad.intersection(pixels):
            assert isinstance(answer, ModelError)
        else:
            assert_scores(answer, pixels)
    assert max(backend.sizes) <= max_batch
    for _, pixels in backend.batches:
        assert pixels == sorted(pixels), "first come, first served"
    if memory >= max_batch and not bad:
        scored = [pixel for _, pixels in backend.batches for pixel in pixels]
        assert scored == [pixel for pixels in numbered(sizes) for pixel in pixels], "each row once"
    if not seconds and not bad:
        for (_, came), (asked, _) in zip(answers, calls, strict=True):
            assert came <= asked + max_wait + 1e-9


@pytest.mark.parametrize(
    ("asked", "memory", "tried"), [(256, 256, [256]), (256, 255, [256, 128]), (100, 20, [100, 50, 25, 13])]
)
def test_largest_batch_is_halved_until_memory_holds_it(asked: int, memory: int, tried: list[int]) -> None:
    shapes = []

    def score(stamps: Stamps) -> Scores:
        shapes.append(stamps.shape)
        assert stamps.dtype == np.float32
        if len(stamps) > memory:
            raise BatchTooLarge("no room")
        return Scores(*np.zeros((3, len(stamps), 1), np.float32))

    assert largest_batch(score, (3, 31, 31), asked) == tried[-1]
    assert shapes == [(size, 3, 31, 31) for size in tried]


def test_no_batch_at_all_fits() -> None:
    def score(stamps: Stamps) -> Scores:
        raise BatchTooLarge("no room")

    with pytest.raises(BatchTooLarge):
        largest_batch(score, (3, 31, 31), 8)
