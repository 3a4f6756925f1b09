"""Processes that are stopped, or loop in C, with and without the GIL: every call comes back.

A map ends within its segments' ``timeout`` and a second, whatever is stuck; ``cleanup`` within
the second that it gives an idle worker to leave, and another. The next map returns only its own
results.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ringwalk import Mapper, SegmentTimeout, TaskMapper, WorkerDied, WorkerMapper
from ringwalk.mappers import deadline
from ringwalk.mappers.deadline import Deadline
from ringwalk.workers import persistent, template
from ringwalk.workers.loop import serve
from ringwalk.workers.persistent import PersistentCrew

Rounds = Callable[[int, int], int]
Within = Callable[[float], float]

TIMEOUT = 1.0
ANSWER = 5.0  # what a template that worked before may take to fork a worker
WALKERS = 6
POISON = 3
WAYS = ("stopped", "loop without the GIL", "loop with the GIL")


def stick(way: str, library: Path) -> None:
    if way == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        load = ctypes.CDLL if way == "loop without the GIL" else ctypes.PyDLL
        load(str(library)).busy_loop()


@contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def unordered(mapper: Mapper, *columns: Any) -> list[Any]:
    return [result for _, result in sorted(mapper.map_unordered(*columns))]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_stuck_segment(
    process_mapper: type[Mapper], way: str, busy_library: Path, rounds: Rounds, within: Within
) -> None:
    def segment(k: int, cycle: int) -> tuple[int, int]:
        if k == POISON and cycle >= 0:
            stick(way, busy_library)
        return k, cycle

    with process_mapper(segment, num_workers=2, timeout=TIMEOUT, on_error="finish") as mapper:
        for cycle in range(rounds(3, 33)):
            call = mapper.map if cycle % 2 else lambda *columns: unordered(mapper, *columns)
            with no_longer_than(within(TIMEOUT + 1)), pytest.raises(SegmentTimeout) as caught:
                call(range(WALKERS), [cycle] * WALKERS)
            assert POISON in caught.value.errors
            for k, result in caught.value.results.items():
                assert result == (k, cycle)
            again = mapper.map([9, 8], [-1, -1])
            assert again == [(9, -1), (8, -1)]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [1, 2], ids=["one of two", "both"])
def test_workers_that_are_stopped_while_idle(stopped: int, within: Within) -> None:
    with WorkerMapper(lambda k: (k, os.getpid()), num_workers=2, timeout=TIMEOUT) as mapper:
        pids: set[int] = set()
        while len(pids) < 2:
            pids |= {pid for _, pid in mapper.map(range(100))}
        for pid in sorted(pids)[:stopped]:
            os.kill(pid, signal.SIGSTOP)
        for offset in (100, 200):
            walkers = range(offset, offset + WALKERS)
            with no_longer_than(within(TIMEOUT + 1)):
                assert [k for k, _ in mapper.map(walkers)] == list(walkers)
        start = time.monotonic()
    assert time.monotonic() - start < within(2)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [1, 2])
def test_lanes_that_are_stopped(lanes: int, within: Within) -> None:
    def segment(k: int) -> int:
        if k == 0:
            os.kill(os.getppid(), signal.SIGSTOP)
        return k

    with TaskMapper(segment, num_workers=lanes, timeout=TIMEOUT) as mapper:
        for _ in range(2):
            with no_longer_than(within(TIMEOUT + 1)):
                assert mapper.map(range(WALKERS)) == list(range(WALKERS))


@pytest.mark.slow
@pytest.mark.parametrize("when", ["in a map", "between maps"])
def test_a_template_that_is_stopped(when: str, within: Within) -> None:
    def segment(k: int, deadly: bool) -> tuple[int, int]:
        if deadly:
            os.kill(os.getppid(), signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGKILL)
        return k, os.getppid()

    with WorkerMapper(segment, num_workers=1, timeout=TIMEOUT, max_retries=0) as mapper:
        ((_, template),) = mapper.map([0], [False])
        if when == "in a map":
            with no_longer_than(within(TIMEOUT + 1)), pytest.raises(WorkerDied):
                mapper.map([0, 1], [True, False])
        else:
            os.kill(template, signal.SIGSTOP)
        with no_longer_than(within(ANSWER + 1)):
            results = mapper.map([1, 2], [False, False])
        assert [k for k, _ in results] == [1, 2]
        assert (template in {parent for _, parent in results}) == (when == "between maps")
        if when == "between maps":
            start = time.monotonic()
    if when == "between maps":
        assert time.monotonic() - start < within(2.5)


@pytest.mark.slow
def test_worker_init_has_no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    hire, poll = PersistentCrew._hire, PersistentCrew.poll
    hired: list[int] = []
    looks = iter(range(10))
    go, tell_go = os.pipe()

    def hire_and_wait_no_longer(crew: PersistentCrew, slot: int, pidfd: int) -> None:
        hire(crew, slot, pidfd)
        hired.append(slot)
        if len(hired) == 2:
            monkeypatch.setattr(persistent, "START_TIMEOUT_S", 0.0)
            monkeypatch.setattr(persistent, "_ANSWER_TIMEOUT_S", 0.0)

    def look_often_enough(crew: PersistentCrew, timeout: float | None) -> persistent.Events:
        if len(hired) == 2 and next(looks, None) == 9:
            os.write(tell_go, b"22")
        return poll(crew, timeout)

    def take_long(device: None) -> int:
        return len(os.read(go, 1))

    monkeypatch.setattr(PersistentCrew, "_hire", hire_and_wait_no_longer)
    monkeypatch.setattr(PersistentCrew, "poll", look_often_enough)
    try:
        with WorkerMapper(
            lambda k, context: context, num_workers=2, worker_init=take_long
        ) as mapper:
            assert mapper.map(range(2)) == [1, 1]
    finally:
        os.close(go)
        os.close(tell_go)


def test_a_worker_that_just_became_ready_has_not_been_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That tasks waited while it started is no fault of its own."""
    go, tell_go = os.pipe()
    killed: list[int] = []
    late = 0
    look = Deadline.look

    def serve_when_told(*args: Any) -> None:
        os.read(go, 1)
        serve(*args)

    def look_late(watch: Deadline, armed: int, finished: int) -> None:
        nonlocal late
        started = watch._pool.crew.started(0)
        late += 0 if started and late else 1_000 * 10**9
        look(watch, armed, finished)
        if started:
            os.write(tell_go, b"1")

    monkeypatch.setattr(template, "serve", serve_when_told)
    monkeypatch.setattr(deadline, "now_ns", lambda: time.monotonic_ns() + late)
    monkeypatch.setattr(Deadline, "look", look_late)
    monkeypatch.setattr(PersistentCrew, "kill", lambda crew, slot: killed.append(slot))
    try:
        with WorkerMapper(lambda k: k, num_workers=1, timeout=60) as mapper:
            assert mapper.map(range(2)) == [0, 1]
    finally:
        os.close(go)
        os.close(tell_go)
    assert killed == []
