"""Processes that die, hang or are stopped: retried, reported, and the mapper goes on."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    Mapper,
    Row,
    SegmentTimeout,
    TaskMapper,
    WalkerBlock,
    WorkerDied,
    WorkerMapper,
)
from ringwalk._core.board import now_ns
from ringwalk.mappers import deadline
from ringwalk.workers.crew import Death
from ringwalk.workers.persistent import PersistentCrew
from ringwalk.workers.pool import Pool

POISON = 5


def _segfault() -> None:
    ctypes.string_at(0)


def _overflow_the_stack() -> None:
    # Through C at each level: Python's own frames live on the heap and would take all memory.
    # With a small stack: from Python 3.12 on, recursion through C is limited, too.
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, resource.RLIM_INFINITY))
    sys.setrecursionlimit(10**9)
    deeper = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: deeper())
    deeper()


def _quiet(action: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        action()

    return run


DEATHS: dict[str, tuple[Callable[[], object], int | None, int | None]] = {
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), None, signal.SIGKILL),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), None, signal.SIGTERM),
    "segfault": (_quiet(_segfault), None, signal.SIGSEGV),
    "abort": (_quiet(os.abort), None, signal.SIGABRT),
    "_exit(3)": (lambda: os._exit(3), 3, None),
    "_exit(0)": (lambda: os._exit(0), 0, None),
    "sys.exit(4)": (lambda: sys.exit(4), 4, None),
    "sys.exit()": (lambda: sys.exit(), 0, None),
    "stack overflow": (_quiet(_overflow_the_stack), None, signal.SIGSEGV),
}


@pytest.mark.parametrize("death", DEATHS)
def test_one_poisonous_walker_among_many(
    process_mapper: type[Mapper], death: str, capfd: pytest.CaptureFixture[str]
) -> None:
    die, exitcode, signum = DEATHS[death]

    def segment(k: int) -> int:
        if k == POISON:
            die()
        return k

    with process_mapper(segment, num_workers=2, on_error="finish") as mapper:
        for _ in range(2):
            with pytest.raises(WorkerDied) as caught:
                mapper.map(range(40))
            error = caught.value
            assert (error.walker, error.attempts) == (POISON, 2)
            assert (error.exitcode, error.signal) == (exitcode, signum)
            assert error.results == {k: k for k in range(40) if k != POISON}
            assert list(error.errors) == [POISON]
        assert mapper.map([1, 2, 3]) == [1, 2, 3]


def dies_once(marks: Path) -> Callable[[Any], Any]:
    """A segment that kills its process the first time it meets the poisonous walker."""

    def segment(k: Any) -> Any:
        number = k.index if isinstance(k, Row) else k
        with (marks / f"{number}").open("a") as file:
            file.write("x")
        if isinstance(k, Row):
            k.count += 1
        if number == POISON and (marks / f"{number}").read_text() == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return segment


def test_a_death_costs_one_attempt(process_mapper: type[Mapper], tmp_path: Path) -> None:
    with process_mapper(dies_once(tmp_path), num_workers=2) as mapper:
        assert mapper.map(range(20)) == list(range(20))
    runs = {int(path.name): len(path.read_text()) for path in tmp_path.iterdir()}
    assert runs == {k: 2 if k == POISON else 1 for k in range(20)}


def test_a_retried_row_starts_from_the_front(process_mapper: type[Mapper], tmp_path: Path) -> None:
    with WalkerBlock(8, count="i8") as block:
        with process_mapper(dies_once(tmp_path), num_workers=2) as mapper:
            mapper.map(block)
        assert block["count"].tolist() == [1] * 8


def test_no_retries_means_executed_at_most_once(
    process_mapper: type[Mapper], tmp_path: Path
) -> None:
    with process_mapper(dies_once(tmp_path), num_workers=2, max_retries=0) as mapper:
        with pytest.raises(WorkerDied) as caught:
            mapper.map(range(20))
    assert caught.value.attempts == 1
    assert all(path.read_text() == "x" for path in tmp_path.iterdir())


def test_an_idle_worker_that_is_killed_is_replaced() -> None:
    with WorkerMapper(lambda k: (k, os.getpid()), num_workers=2) as mapper:
        pids = {pid for _, pid in mapper.map(range(100))}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        results = mapper.map(range(100))
        assert [k for k, _ in results] == list(range(100))
        assert not pids & {pid for _, pid in results}


def test_the_template_may_die_too() -> None:
    with WorkerMapper(lambda k: (k, os.getppid()), num_workers=2) as mapper:
        ((_, template), *_) = mapper.map(range(4))
        pidfd = os.pidfd_open(template)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [])
        os.close(pidfd)
        results = mapper.map(range(100))
        assert [k for k, _ in results] == list(range(100))
        assert template not in {parent for _, parent in results}


def test_the_template_dies_during_a_map(tmp_path: Path) -> None:
    def segment(k: int) -> int:
        mark = tmp_path / str(k)
        if k == POISON and not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()  # the kernel kills this process, as its parent died
        return k

    with WorkerMapper(segment, num_workers=2) as mapper:
        assert mapper.map(range(20)) == list(range(20))


def test_a_map_is_given_up_though_a_lane_was_reaped_by_others() -> None:
    """Its process id is nobody's, where the program ignores the ends of its children."""

    class GivenUp(Exception):
        """What the caller ends the map with."""

    def segment(k: int) -> None:
        if k > 0:
            signal.pause()

    def give_up(done: int, count: int) -> None:
        if count == 1:
            return
        for pid in mapper._pool.pids().values():  # type: ignore[union-attr]
            lane = os.pidfd_open(pid)
            signal.pidfd_send_signal(lane, signal.SIGKILL)
            select.select([lane], [], [])
            os.close(lane)
        raise GivenUp

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with TaskMapper(segment, num_workers=2, progress=give_up) as mapper:
            with pytest.raises(GivenUp):
                mapper.map(range(3))
            assert mapper.map([0]) == [None]
    finally:
        signal.signal(signal.SIGCHLD, before)


# --- time limits ----------------------------------------------------------


def endless_at_poison(k: int) -> int:
    if k == POISON:
        ctypes.CDLL(None).pause()  # in C, where no Python signal handler runs
    return k


class Clock:
    """What the mapper takes for the time; ahead, every segment that runs is late."""

    ahead = False

    def __call__(self) -> int:
        return now_ns() + self.ahead * 3_600 * 10**9

    def when_one_is_left(self, done: int, count: int) -> None:
        """As a mapper's progress: nobody else runs then, so nobody else can be late by chance."""
        self.ahead = done == count - 1


def assert_poison_is_late(mapper: Mapper, clock: Clock) -> None:
    """Its segment overruns, and the mapper is usable afterwards."""
    clock.ahead = True
    with pytest.raises(SegmentTimeout):
        mapper.map([POISON])
    clock.ahead = False
    assert mapper.map([1]) == [1]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadline, "now_ns", clock)
    return clock


def test_timeout_ends_a_segment_that_hangs(process_mapper: type[Mapper], clock: Clock) -> None:
    with process_mapper(
        endless_at_poison,
        num_workers=2,
        timeout=60,
        on_error="finish",
        progress=clock.when_one_is_left,
    ) as mapper:
        with pytest.raises(SegmentTimeout, match=r"longer than timeout=60 s") as caught:
            mapper.map(range(20))
        assert caught.value.walker == POISON
        assert caught.value.results == {k: k for k in range(20) if k != POISON}
        assert mapper.map([1]) == [1]


def test_timeout_ends_a_stopped_process(process_mapper: type[Mapper], clock: Clock) -> None:
    def stop(k: int) -> int:
        if k == POISON:
            os.kill(os.getpid(), signal.SIGSTOP)
        return k

    with process_mapper(
        stop, num_workers=2, timeout=60, on_error="finish", progress=clock.when_one_is_left
    ) as mapper:
        with pytest.raises(SegmentTimeout):
            mapper.map(range(20))
        assert mapper.map([1]) == [1]


def test_timeout_ends_a_worker_that_its_template_told_of_late(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int | None] = []
    kill, hear = PersistentCrew.kill, PersistentCrew._hear_template

    def watched(crew: PersistentCrew, slot: int) -> None:
        killed.append(crew.pid(slot))
        kill(crew, slot)

    monkeypatch.setattr(PersistentCrew, "kill", watched)
    monkeypatch.setattr(PersistentCrew, "_hear_template", lambda crew: killed and hear(crew))
    with WorkerMapper(endless_at_poison, num_workers=1, timeout=60) as mapper:
        assert_poison_is_late(mapper, clock)
    assert killed[0] is None


# --- the next map ----------------------------------------------------------


@pytest.mark.parametrize("way", ["death", "error", "interrupt"])
def test_the_next_map_returns_only_its_own_results(process_mapper: type[Mapper], way: str) -> None:
    parent = os.getpid()

    def segment(k: int, action: str) -> int:
        if k == POISON and action == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        if k == POISON and action == "error":
            raise ValueError("poison")
        if k == POISON and action == "interrupt":
            os.kill(parent, signal.SIGINT)
            signal.pause()
        return k

    with process_mapper(segment, num_workers=2) as mapper:
        for round_ in range(5):
            with pytest.raises(BaseException) as caught:  # noqa: PT011 - three kinds of end
                mapper.map(range(50), [way] * 50)
            assert (caught.type is KeyboardInterrupt) == (way == "interrupt")
            offset = 100 * (round_ + 1)
            expected = list(range(offset, offset + 50))
            assert mapper.map(expected, ["none"] * 50) == expected


def test_an_interrupted_map_leaves_the_block_as_it_was(process_mapper: type[Mapper]) -> None:
    parent = os.getpid()

    def segment(row: Row) -> None:
        row.x = -1.0
        if row.index == POISON:
            os.kill(parent, signal.SIGINT)
            signal.pause()

    with WalkerBlock(10, x="f8") as block, process_mapper(segment, num_workers=2) as mapper:
        with pytest.raises(KeyboardInterrupt):
            mapper.map(block)
        assert np.array_equal(block["x"], np.zeros(10))


def test_sigterm_handlers_of_the_parent_do_not_run_in_workers(
    process_mapper: type[Mapper],
) -> None:
    def handler(signum: int, frame: Any) -> None:
        raise AssertionError("the parent's handler ran")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with process_mapper(
            lambda k: str(signal.getsignal(signal.SIGTERM)), num_workers=1
        ) as mapper:
            assert mapper.map([0]) == [str(signal.SIG_DFL)]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_worker_that_burns_time_in_python_can_be_ended(
    process_mapper: type[Mapper], clock: Clock
) -> None:
    def spin(k: int) -> int:
        while k == POISON:
            time.monotonic()
        return k

    with process_mapper(spin, num_workers=1, timeout=60) as mapper:
        assert_poison_is_late(mapper, clock)


def test_a_slot_stays_vacant_until_its_death_is_settled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the successor has claimed would be taken for the dead one's."""
    settled: list[bool] = []
    settle = Pool.settle

    def watched(pool: Pool, death: Death, *rest: Any) -> Any:
        settled.append(pool.crew.vacant(death.slot))
        return settle(pool, death, *rest)

    def segment(k: int) -> int:
        if k == POISON and not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        return k

    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        with WorkerMapper(segment, num_workers=3) as mapper:
            mapper.map(range(POISON))
            monkeypatch.setattr(Pool, "settle", watched)
            assert mapper.map(range(10)) == list(range(10))
    assert settled == [True] * 3
