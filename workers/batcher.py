"""Dynamic batching over callers: rows of several calls are scored together, each call gets its own back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from space2vec.schemas.errors import ModelError
from space2vec.workers.backends import BatchTooLarge
from space2vec.workers.scores import Scores, joined

GROW_AFTER = 100
"""Full batches in a row that must pass before a size that memory once refused is tried again."""


@dataclass(eq=False, slots=True)
class _Call:
    """One caller's stamps; ``taken`` rows of them have gone into batches, ``parts`` have come back."""

    stamps: NDArray[np.float32]
    answer: asyncio.Future[Scores]
    arrived: float
    taken: int = 0
    parts: list[Scores] = field(default_factory=list)

    @property
    def waiting(self) -> int:
        return len(self.stamps) - self.taken


class _Segment(NamedTuple):
    """Consecutive rows of one call, in one batch."""

    call: _Call
    stamps: NDArray[np.float32]


def largest_batch(score: Callable[[NDArray[np.float32]], Scores], shape: tuple[int, ...], asked: int) -> int:
    """Find by trial the largest batch, halving from the one asked for, that the device's memory holds.

    It takes the memory, loads the libraries and chooses the algorithms that the first batches would wait for.

    Parameters
    ----------
    score : callable
        Scores ``(n, *shape)`` float32; raises :class:`BatchTooLarge` for want of memory.
    shape : tuple of int
        Of one alert's stamps, ``(P, S, S)``.
    asked : int
        Alerts.

    Raises
    ------
    BatchTooLarge
        If not even one alert fits.
    """
    while True:
        try:
            score(np.zeros((asked, *shape), np.float32))
            return asked
        except BatchTooLarge:
            if asked == 1:
                raise
            asked = (asked + 1) // 2


class Batcher:
    """Collects rows until there are ``max_batch`` of them or the oldest has waited ``max_wait`` seconds.

    One batch is scored at a time, first come first served; meanwhile the next one fills. A call's rows may be
    spread over batches. Where a batch fails, its calls are scored apart, so that an error reaches only those it
    concerns. Where memory does not hold a batch, it is halved, down to single rows; later batches keep to
    what passed, until a hundred have.

    Parameters
    ----------
    score : callable
        Scores ``(n, P, S, S)`` float32, ``n <= max_batch``; raises :class:`BatchTooLarge` for want of memory.
    max_batch : int
        Rows.
    max_wait : float
        Seconds.
    """

    def __init__(
        self, score: Callable[[NDArray[np.float32]], Awaitable[Scores]], max_batch: int, max_wait: float
    ) -> None:
        self._score = score
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._limit = max_batch
        self._full_batches = 0
        self._queue: deque[_Call] = deque()
        self._news = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    async def score(self, stamps: NDArray[np.float32]) -> Scores:
        """Score one call's rows, in their order.

        Raises
        ------
        Exception
            Whatever scoring these rows raised.
        """
        if not len(stamps):
            return await self._score(stamps)
        loop = asyncio.get_running_loop()
        call = _Call(stamps, loop.create_future(), loop.time())
        self._queue.append(call)
        self._news.set()
        if self._runner is None or self._runner.done():
            self._runner = loop.create_task(self._run())
        return await call.answer

    async def _run(self) -> None:
        while self._queue:
            await self._fill()
            segments = self._take()
            if segments:
                await self._answer(segments)

    async def _fill(self) -> None:
        """Wait until a batch is full or the oldest call has waited long enough."""
        deadline = self._queue[0].arrived + self._max_wait
        try:
            async with asyncio.timeout_at(deadline):
                while sum(call.waiting for call in self._queue) < self._limit:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass

    def _take(self) -> list[_Segment]:
        """Take at most ``limit`` rows from the head of the queue, leaving out calls nobody waits for."""
        segments: list[_Segment] = []
        room = self._limit
        while self._queue and room:
            call = self._queue[0]
            if not call.answer.done():
                stamps = call.stamps[call.taken : call.taken + room]
                segments.append(_Segment(call, stamps))
                call.taken += len(stamps)
                room -= len(stamps)
            if call.answer.done() or not call.waiting:
                self._queue.popleft()
        return segments

    async def _answer(self, segments: Sequence[_Segment]) -> None:
        """Score segments together, and hand each call its part, or the error that is its own."""
        try:
            if len(segments) == 1:
                scores = await self._score_whole(segments[0].stamps)
            else:
                scores = await self._score_whole(np.concatenate([segment.stamps for segment in segments]))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
            if len(segments) > 1:
                for segment in segments:
                    await self._answer([segment])
            elif not segments[0].call.answer.done():
                segments[0].call.answer.set_exception(error)
            return
        start = 0
        for call, stamps in segments:
            call.parts.append(scores.slice(start, start + len(stamps)))
            start += len(stamps)
            if not call.waiting and not call.answer.done():
                call.answer.set_result(joined(call.parts))

    async def _score_whole(self, stamps: NDArray[np.float32]) -> Scores:
        """Score rows at once where memory allows, else in halves."""
        try:
            scores = await self._score(stamps)
        except BatchTooLarge:
            if len(stamps) == 1:
                raise
            half = (len(stamps) + 1) // 2
            self._limit, self._full_batches = min(self._limit, half), 0
            return joined([await self._score_whole(stamps[:half]), await self._score_whole(stamps[half:])])
        if len(scores) != len(stamps):
            raise ModelError(f"{len(scores)} scores for {len(stamps)} stamps")
        if len(stamps) == self._limit < self._max_batch:
            self._full_batches += 1
            if self._full_batches == GROW_AFTER:
                self._limit, self._full_batches = min(self._max_batch, 2 * self._limit), 0
        return scores
