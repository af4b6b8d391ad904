"""The scorer over Ray: classifiers that die, stamps that kill, outages that pass."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from space2vec.stream.protocols import ScoringFailed
from space2vec.stream.ray_scorer import RayScorer
from space2vec.workers.scores import Scores

KILLS = 666.0
RAISES = 13.0


class Moody:
    """Stands for a classifier: some stamps kill it, some make it raise."""

    def score(self, stamps: np.ndarray) -> Scores:
        if (stamps == KILLS).any():
            os._exit(1)
        if (stamps == RAISES).any():
            raise ValueError("thirteen")
        nothing = np.zeros((len(stamps), 0), np.float32)
        return Scores(stamps[:, 0, 0, 0].copy(), nothing, nothing)

    def ready(self) -> int:
        return os.getpid()


@pytest.fixture
def moody(ray_cluster):
    actor = ray_cluster.remote(Moody).options(num_cpus=0.1, max_restarts=-1)
    actors = [actor.remote() for _ in range(2)]
    ray_cluster.get([a.ready.remote() for a in actors])
    yield actors
    for a in actors:
        ray_cluster.kill(a)


def stamps(*values: float) -> np.ndarray:
    return np.stack([np.full((3, 1, 1), value, np.float32) for value in values])


def await_scores(scorer: RayScorer, ticket: Any, deadline_s: float = 90) -> Scores:
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        scores = scorer.wait(ticket, 0.2)
        if scores is not None:
            return scores
    raise TimeoutError


@pytest.mark.timeout(200)
def test_stamps_outlive_the_classifier_that_had_them(ray_cluster, moody) -> None:
    scorer = RayScorer(moody)
    tickets = [scorer.submit(stamps(n)) for n in range(6)]
    os.kill(ray_cluster.get(moody[0].ready.remote()), 9)
    tickets += [scorer.submit(stamps(n)) for n in range(6, 12)]
    assert [await_scores(scorer, t).logit.tolist() for t in tickets] == [[float(n)] for n in range(12)]


@pytest.mark.timeout(200)
def test_stamps_that_kill_three_healthy_classifiers_are_given_up(moody) -> None:
    scorer = RayScorer(moody)
    ticket = scorer.submit(stamps(1, KILLS))
    with pytest.raises(ScoringFailed, match="3 healthy classifiers died"):
        await_scores(scorer, ticket)
    assert await_scores(scorer, scorer.submit(stamps(5))).logit.tolist() == [5]


@pytest.mark.timeout(200)
def test_a_node_of_classifiers_lost_at_once_is_held_against_no_stamps(ray_cluster) -> None:
    actor = ray_cluster.remote(Moody).options(num_cpus=0.1)
    actors = [actor.remote() for _ in range(8)]
    ray_cluster.get([a.ready.remote() for a in actors])
    for lost in actors[:-1]:  # until Ray knows of the node, none of them comes back
        ray_cluster.kill(lost)
    scorer = RayScorer(actors)
    tickets = [scorer.submit(stamps(n)) for n in range(3)]
    assert [await_scores(scorer, t).logit.tolist() for t in tickets] == [[float(n)] for n in range(3)]
    ray_cluster.kill(actors[-1])


@pytest.mark.timeout(200)
def test_what_a_silent_classifier_has_goes_to_another_until_it_answers_again(
    ray_cluster, moody, monkeypatch
) -> None:
    """As on a machine without power or network, of which Ray knows nothing for a minute."""
    monkeypatch.setattr("space2vec.stream.ray_scorer._SILENCE_S", 1.0)
    silent = ray_cluster.get(moody[0].ready.remote())
    scorer = RayScorer(moody)
    os.kill(silent, signal.SIGSTOP)
    try:
        tickets = [scorer.submit(stamps(n)) for n in range(4)]
        assert [await_scores(scorer, t, 20).logit.tolist() for t in tickets] == [[float(n)] for n in range(4)]
        assert not any(ticket.deaths for ticket in tickets)
        later = [scorer.submit(stamps(n)) for n in range(4)]
        assert {at for ticket in later for at in ticket.calls.values()} == {1}
    finally:
        os.kill(silent, signal.SIGCONT)
    deadline = time.monotonic() + 30
    while 0 not in scorer.submit(stamps(7)).calls.values() and time.monotonic() < deadline:
        await_scores(scorer, later[0])
        time.sleep(0.1)
    assert await_scores(scorer, scorer.submit(stamps(8))).logit.tolist() == [8]
    assert {at for n in range(4) for at in scorer.submit(stamps(n)).calls.values()} == {0, 1}


@pytest.mark.timeout(200)
def test_a_machine_of_silent_classifiers_is_not_tried_one_by_one(ray_cluster, monkeypatch) -> None:
    monkeypatch.setattr("space2vec.stream.ray_scorer._SILENCE_S", 1.0)
    actors = [ray_cluster.remote(Moody).options(num_cpus=0.1).remote() for _ in range(4)]
    lost = ray_cluster.get([a.ready.remote() for a in actors])[:-1]
    for process in lost:
        os.kill(process, signal.SIGSTOP)
    try:
        scorer = RayScorer(actors)
        ticket = scorer.submit(stamps(4))
        assert await_scores(scorer, ticket, 20).logit.tolist() == [4]
        assert list(ticket.calls.values()) == [0, 3]
    finally:
        for process in lost:
            os.kill(process, signal.SIGKILL)
        ray_cluster.kill(actors[-1])


class Waiting:
    """Stands for a classifier that scores when a file is there, and says at once that it is there itself."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def score(self, stamps: np.ndarray) -> Scores:
        while not self._file.exists():
            await asyncio.sleep(0.05)
        return Moody().score(stamps)

    async def ready(self) -> int:
        return os.getpid()


@pytest.mark.timeout(200)
def test_machines_that_fall_silent_and_then_are_lost_count_as_one_death(
    ray_cluster, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("space2vec.stream.ray_scorer._SILENCE_S", 0.5)
    actor = ray_cluster.remote(Waiting).options(num_cpus=0.1, max_restarts=-1)
    actors = [actor.remote(tmp_path / "go") for _ in range(3)]
    processes = ray_cluster.get([a.ready.remote() for a in actors])
    scorer = RayScorer(actors)
    ticket = scorer.submit(stamps(5))
    try:
        for count, process in enumerate(processes, 1):  # one after the other, each while it has the stamps
            assert list(ticket.calls.values()) == list(range(count))
            os.kill(process, signal.SIGSTOP)
            deadline = time.monotonic() + 20
            while len(ticket.calls) < min(count + 1, 3) and time.monotonic() < deadline:
                assert scorer.wait(ticket, 0.05) is None
        (tmp_path / "go").touch()
    finally:
        for process in processes:
            os.kill(process, signal.SIGKILL)
    assert await_scores(scorer, ticket).logit.tolist() == [5]
    for a in actors:
        ray_cluster.kill(a)


@pytest.mark.timeout(200)
def test_the_only_classifier_keeps_what_it_is_long_at_work_on(ray_cluster, monkeypatch) -> None:
    monkeypatch.setattr("space2vec.stream.ray_scorer._SILENCE_S", 0.2)
    actor = ray_cluster.remote(Moody).options(num_cpus=0.1).remote()
    process = ray_cluster.get(actor.ready.remote())
    scorer = RayScorer([actor])
    os.kill(process, signal.SIGSTOP)
    ticket = scorer.submit(stamps(3))
    calls = list(ticket.calls)
    for _ in range(6):
        assert scorer.wait(ticket, 0.2) is None
    os.kill(process, signal.SIGCONT)
    assert await_scores(scorer, ticket).logit.tolist() == [3]
    assert list(ticket.calls) == calls
    ray_cluster.kill(actor)


class Busy:
    """Stands for a classifier with much to do: it takes long, and says at once that it is there."""

    async def score(self, stamps: np.ndarray) -> Scores:
        await asyncio.sleep(1.0)
        return Moody().score(stamps)

    async def ready(self) -> int:
        return os.getpid()


@pytest.mark.timeout(200)
def test_classifiers_that_are_only_slow_are_used_all_the_while(ray_cluster, monkeypatch) -> None:
    monkeypatch.setattr("space2vec.stream.ray_scorer._PROBE_S", 0.05)
    monkeypatch.setattr("space2vec.stream.ray_scorer._SILENCE_S", 0.4)
    actors = [ray_cluster.remote(Busy).options(num_cpus=0.1).remote() for _ in range(2)]
    ray_cluster.get([actor.ready.remote() for actor in actors])
    scorer = RayScorer(actors)
    tickets = [scorer.submit(stamps(0))]
    for n in range(1, 12):
        assert scorer.wait(tickets[0], 0.05) is None
        tickets.append(scorer.submit(stamps(n)))
    calls = [list(ticket.calls) for ticket in tickets]
    assert all(calls)
    assert [await_scores(scorer, t).logit.tolist() for t in tickets] == [[float(n)] for n in range(12)]
    assert [list(ticket.calls) for ticket in tickets] == calls
    for actor in actors:
        ray_cluster.kill(actor)


@pytest.mark.timeout(200)
def test_what_a_classifier_raises_is_held_against_the_stamps(moody) -> None:
    scorer = RayScorer(moody)
    with pytest.raises(ScoringFailed, match="thirteen"):
        await_scores(scorer, scorer.submit(stamps(RAISES)))
