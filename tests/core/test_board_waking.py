"""Board: nobody sleeps through what it waits for, whoever dies meanwhile."""

from __future__ import annotations

import os
import select
import signal
import struct
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from ringwalk._core import board as states
from ringwalk._core.consumer import Consumer

SLOTS, CAPACITY, EPOCH = 2, 64, 7  # of the pools that make_pool makes
MakePool = Callable[..., Any]
WATCHER = 8  # offset of the board's word that says who looks out


def test_a_sleep_is_refused_when_it_is_over_already(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(2)
    worker = pool.worker()
    worker.commit_inline(worker.take(), None)
    assert pool.board.sleep(True, 0) is False
    assert pool.board.sleep(False, 1) is False
    worker.commit_inline(worker.take(), None)
    assert not pool.was_woken()  # the parent was awake: no system call


@pytest.mark.parametrize("failed", [False, True])
def test_a_parent_that_waits_for_anything_is_woken_by_the_next(
    make_pool: MakePool, failed: bool
) -> None:
    pool = make_pool()
    pool.start(2)
    worker = pool.worker()
    assert pool.board.sleep(True, 0) is True
    worker.commit(worker.take(), failed, 0, 0)
    assert pool.was_woken()
    worker.commit(worker.take(), failed, 0, 0)
    assert not pool.was_woken()  # once a sleep


def test_a_parent_that_waits_for_all_is_woken_by_a_failure(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(2)
    worker = pool.worker()
    assert pool.board.sleep(False, 2) is True
    worker.commit(worker.take(), False, 0, 0)
    assert not pool.was_woken()
    worker.commit(worker.take(), True, 0, 0)
    assert pool.was_woken()


def test_a_parent_that_waits_for_all_is_woken_at_the_end(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(2)
    worker = pool.worker()
    assert pool.board.sleep(False, 2) is True
    for _ in range(2):
        worker.commit_inline(worker.take(), None)
        assert not pool.was_woken()
    pool.board.close()
    assert worker.take() == -1  # finds nothing more to do
    assert pool.was_woken()


def test_an_awake_parent_is_left_alone(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(1)
    assert pool.board.sleep(True, 0) is True
    pool.board.awake()
    worker = pool.worker()
    worker.commit_inline(worker.take(), None)
    assert not pool.was_woken()


def test_idle_workers_sleep_and_leave_when_the_board_closes(make_pool: MakePool, fork: Any) -> None:
    pool = make_pool()
    for _ in range(2):
        children = [fork(lambda slot=slot: _no_task(pool.worker(slot))) for slot in range(SLOTS)]
        for child in children:
            child.await_sleep()
        pool.board.close()
        assert [child.join() for child in children] == [0, 0]
        pool.board.reopen()


def _no_task(worker: Consumer) -> None:
    assert worker.take() == -1


def test_who_looks_out_sleeps_soon(make_pool: MakePool, fork: Any) -> None:
    pool = make_pool(cpus=4)
    children = [fork(lambda slot=slot: _no_task(pool.worker(slot))) for slot in range(SLOTS)]
    for child in children:
        child.await_sleep()
    pool.board.close()
    assert [child.join() for child in children] == [0, 0]


def test_a_signal_handler_that_raises_ends_the_wait_for_a_task(
    make_pool: MakePool, fork: Any
) -> None:
    pool = make_pool()

    def handler(signum: int, frame: FrameType | None) -> None:
        raise InterruptedError("stop")

    def body() -> None:
        signal.signal(signal.SIGUSR1, handler)
        with pytest.raises(InterruptedError, match="stop"):
            pool.worker().take()

    child = fork(body)
    child.await_sleep()
    child.kill(signal.SIGUSR1)
    assert child.join() == 0


# --- deaths --------------------------------------------------------------------------------------


def _finish(pool: Any, count: int, epoch: int = EPOCH) -> None:
    """Wait for the end of a map, asleep as the parent is."""
    while True:
        done = pool.board.done()  # counted before looking: what ends meanwhile is not missed
        if not pool.harvest(count, epoch)[0]:
            return
        if pool.board.sleep(True, done):
            select.select([pool.wake_fd], [], [])
            pool.was_woken()
            pool.board.awake()


def test_a_killed_workers_task_runs_again(
    make_pool: MakePool, fork: Any, pipe: tuple[int, int]
) -> None:
    pool = make_pool()
    source, end = pipe

    def stuck() -> None:
        worker = pool.worker(0)
        os.write(end, struct.pack("<I", worker.take()))
        signal.pause()

    victim = fork(stuck)
    os.close(end)
    pool.start(1)
    assert struct.unpack("<I", os.read(source, 4)) == (0,)
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    assert pool.board.claimed_by(0, 1) == [0]
    assert pool.board.running_on(0) == 0
    assert pool.board.retry(0)
    survivor = fork(lambda: _work(pool, 1))
    pool.board.push(EPOCH, pool.board.ready(1))
    _finish(pool, 1)
    pool.board.close()
    assert survivor.join() == 0
    assert pool.results[0] == 1  # the attempt that ended
    assert pool.board.state(0) == (states.DONE, 1, 1, EPOCH)


def _work(pool: Any, slot: int) -> None:
    """Answer with the number of the attempt."""
    worker = pool.worker(slot)
    while (task := worker.take()) >= 0:
        worker.commit_inline(task, pool.board.state(task)[1])


def test_a_sleeper_that_is_killed_takes_no_wake_up_along(make_pool: MakePool, fork: Any) -> None:
    pool = make_pool()
    victim, survivor = fork(lambda: _work(pool, 0)), fork(lambda: _work(pool, 1))
    victim.await_sleep()
    survivor.await_sleep()
    victim.kill()
    victim.join()
    pool.start(3)
    _finish(pool, 3)
    pool.board.close()
    assert survivor.join() == 0
    assert [pool.board.state(task)[2] for task in range(3)] == [1, 1, 1]


def _have_looking_out(pool: Any, worker: int) -> None:
    os.pwrite(pool.arena.fileno(), struct.pack("<I", worker + 1), WATCHER)


def test_a_worker_that_died_looking_out_is_counted_on_no_more(
    make_pool: MakePool, fork: Any
) -> None:
    pool = make_pool()
    survivor = fork(lambda: _work(pool, 1))
    survivor.await_sleep()
    _have_looking_out(pool, 0)
    pool.start(1)
    survivor.await_sleep()  # for who looks out is to see the hint
    assert pool.harvest(1)[0] == 1
    pool.board.bury(0)
    _finish(pool, 1)
    pool.board.close()
    assert survivor.join() == 0
    assert pool.board.state(0)[2] == 1


def test_a_worker_that_was_stopped_looking_out_is_counted_on_no_more(
    make_pool: MakePool, fork: Any
) -> None:
    pool = make_pool()
    other = fork(lambda: _work(pool, 1))
    other.await_sleep()
    _have_looking_out(pool, 0)
    pool.start(1)
    pool.board.wake_workers()  # as the parent does after a second without news
    _finish(pool, 1)
    pool.board.close()
    assert other.join() == 0


@pytest.mark.slow
def test_many_maps_many_deaths_every_task_once(make_pool: MakePool, fork: Any) -> None:
    pool = make_pool()
    workers = [fork(lambda slot=slot: _work(pool, slot)) for slot in range(SLOTS)]
    for number in range(60):
        epoch = EPOCH + number
        pool.seen[:] = bytes(CAPACITY)
        pool.results = [None] * CAPACITY
        pool.start(CAPACITY, epoch)
        victim = number % SLOTS
        workers[victim].kill()
        workers[victim].join()
        retried = pool.board.claimed_by(victim, CAPACITY)
        assert len(retried) <= 1
        assert all(pool.board.retry(task) for task in retried)
        workers[victim] = fork(lambda slot=victim: _work(pool, slot))
        # A hint may have died with the worker: the board knows what is ready.
        pool.board.push(epoch, pool.board.ready(CAPACITY))
        _finish(pool, CAPACITY, epoch)
        attempts = pool.results
        assert [attempts.count(0), attempts.count(1)] == [CAPACITY - len(retried), len(retried)]
    pool.board.close()
    assert [worker.join() for worker in workers] == [0, 0]
