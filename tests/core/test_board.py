"""Board: a task runs once, its result arrives once, whoever dies on the way."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringwalk._core import board as states
from ringwalk._core.board import now_ns

SLOTS, CAPACITY, EPOCH = 2, 64, 7  # of the pools that make_pool makes
MakePool = Callable[[], Any]


def test_life_of_a_task(make_pool: MakePool) -> None:
    pool = make_pool()
    board, worker = pool.board, pool.worker(1)
    board.announce(EPOCH, 1000, 50)
    board.arm_each(3, EPOCH, 256, [40])
    assert board.state(3) == (states.READY, 0, 0, EPOCH)
    assert board.ready(CAPACITY) == [3]
    board.push(EPOCH, [3])
    assert board.started_ns(3) == 0
    before = now_ns()
    assert worker.take() == 3
    assert before <= board.started_ns(3) <= now_ns()
    assert board.state(3) == (states.RUNNING, 0, 1, EPOCH)
    assert (board.running_on(1), board.running_on(0)) == (3, None)
    assert board.claimed_by(1, CAPACITY) == [3]
    assert worker.job() == (EPOCH, 1000, 50)
    assert worker.epoch_of(3) == EPOCH
    assert worker.input(3) == (256, 40)
    worker.commit(3, False, 9, 77)
    assert board.state(3) == (states.DONE, 0, 1, EPOCH)
    assert board.running_on(1) is None
    assert board.done() == 1
    pool.seen[:3] = b"\1\1\1"
    assert pool.harvest(4) == (0, [(3, states.DONE, 1, 9, 77)])
    assert pool.harvest(4) == (0, [])


def test_payloads_that_lie_one_after_another(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.board.arm_each(2, EPOCH, 1000, [40, 0, 24])
    assert pool.board.ready(CAPACITY) == [2, 3, 4]
    assert [pool.worker(0).input(k) for k in (2, 3, 4)] == [(1000, 40), (1040, 0), (1040, 24)]
    with pytest.raises(IndexError, match=f"board for {CAPACITY}"):
        pool.board.arm_each(CAPACITY - 1, EPOCH, 0, [8, 8])


def test_run_comes_back_when_the_record_is_too_small_or_the_map_over(make_pool: MakePool) -> None:
    pool = make_pool()
    board, worker = pool.board, pool.worker(1)
    answers: list[Any] = [None, 2.5, "text", 4]
    pool.start(len(answers))
    assert worker.run(EPOCH, answers.__getitem__) == "text"
    assert worker.taken == 2
    assert [board.state(k)[0] for k in range(4)] == [
        states.DONE,
        states.DONE,
        states.RUNNING,
        states.READY,
    ]
    board.arm_each(5, EPOCH + 1, 0, [0])
    board.push(EPOCH + 1, [5])
    assert worker.run(EPOCH, answers.__getitem__) is None
    assert worker.taken == 5
    assert board.state(3)[0] == states.DONE
    board.close()
    assert worker.run(EPOCH, answers.__getitem__) is None
    assert worker.taken == -1


def test_what_a_call_raises_comes_through_run_with_its_task(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(1)
    with pytest.raises(IndexError):
        pool.worker(0).run(EPOCH, [].__getitem__)
    assert pool.board.running_on(0) == 0


INLINE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
)


# The fixture is a function: each example makes a pool of its own.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(value=INLINE)
def test_small_results_travel_in_the_record(make_pool: MakePool, value: float | None) -> None:
    pool = make_pool()
    pool.start(1)
    worker = pool.worker()
    assert worker.commit_inline(worker.take(), value) is True
    assert pool.harvest(1) == (0, [])
    result = pool.results[0]
    assert type(result) is type(value)
    if isinstance(value, float):  # also for what is equal to nothing, or to another zero
        assert struct.pack("<d", result) == struct.pack("<d", value)
    else:
        assert result == value


class Subclass(int):
    pass


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "x", b"", 1j, Subclass(1), [1]])
def test_other_results_do_not(make_pool: MakePool, value: object) -> None:
    pool = make_pool()
    pool.start(1)
    worker = pool.worker()
    task = worker.take()
    assert worker.commit_inline(task, value) is False
    assert pool.board.state(task)[0] == states.RUNNING


def test_a_task_that_is_hinted_at_twice_runs_once(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(2)
    pool.board.push(EPOCH, [0, 1, 1, 0])
    first, second = pool.worker(0), pool.worker(1)
    assert {first.take(), second.take()} == {0, 1}
    pool.board.close()
    assert (first.take(), second.take()) == (-1, -1)


def test_a_hint_of_another_map_is_stale(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(2, EPOCH - 1)
    pool.board.cancel(EPOCH - 1, 2)
    pool.start(2, EPOCH)
    worker = pool.worker()
    assert [worker.take(), worker.take()] == [0, 1]
    assert [worker.epoch_of(task) for task in (0, 1)] == [EPOCH, EPOCH]
    pool.board.close()
    assert worker.take() == -1


def test_cancel_stops_what_has_not_begun_in_this_map(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(4)
    pool.board.arm_each(3, EPOCH + 1, 0, [0])
    worker = pool.worker()
    assert worker.take() == 0
    assert pool.board.cancel(EPOCH, CAPACITY + 9) == 2
    found = [pool.board.state(task)[0] for task in range(4)]
    assert found == [states.RUNNING, states.CANCELLED, states.CANCELLED, states.READY]
    pool.board.close()
    assert worker.take() == -1


def test_retry_counts_attempts_and_give_up_ends_them(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(1)
    for attempt in range(3):
        assert pool.worker(attempt % 2).take() == 0
        assert pool.board.state(0) == (states.RUNNING, attempt, attempt % 2, EPOCH)
        assert pool.board.retry(0)
        assert pool.board.started_ns(0) == 0
        pool.board.push(EPOCH, [0])
    assert pool.worker(1).take() == 0
    assert pool.board.give_up(0)
    assert pool.board.state(0) == (states.LOST, 3, 1, EPOCH)
    assert pool.harvest(1)[0] == 0


@pytest.mark.parametrize("verb", ["retry", "give_up"])
def test_what_was_committed_stays(make_pool: MakePool, verb: str) -> None:
    pool = make_pool()
    pool.start(1)
    worker = pool.worker()
    worker.commit(worker.take(), True, 5, 6)
    before = pool.board.snapshot(0, 1)
    assert getattr(pool.board, verb)(0) is False
    assert pool.board.snapshot(0, 1) == before
    assert pool.harvest(1) == (0, [(0, states.FAILED, 0, 5, 6)])


def test_harvest_takes_each_result_once_and_in_place(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(4)
    worker = pool.worker()
    fresh: list[int] = []
    for expected in ([0], [1]):
        worker.commit_inline(worker.take(), 10 + expected[0])
        fresh.clear()
        found = pool.board.harvest(EPOCH, 4, pool.seen, pool.results, fresh)
        assert found == (3 - expected[0], [])
        assert fresh == expected
    worker.commit(worker.take(), False, 1, 2)
    pool.board.cancel(EPOCH, 4)
    assert pool.harvest(4) == (0, [(2, states.DONE, 0, 1, 2), (3, states.CANCELLED, 0, 0, 0)])
    assert pool.results[:4] == [10, 11, None, None]


def test_harvest_ignores_the_last_maps_results(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(1, EPOCH - 1)
    worker = pool.worker()
    worker.commit_inline(worker.take(), 1)
    assert pool.harvest(1) == (1, [])
    assert pool.results[0] is None


def test_durations_of_the_last_attempts(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(2)
    worker = pool.worker()
    began = now_ns()
    worker.commit_inline(worker.take(), 1)
    elapsed = 1e-9 * (now_ns() - began)
    seconds = np.full(2, -1.0)
    pool.board.durations(seconds)
    assert 0 < seconds[0] <= elapsed
    assert seconds[1] == 0


# --- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CAPACITY, 2**32 - 1])
def test_a_task_lies_on_the_board(make_pool: MakePool, task: int) -> None:
    pool = make_pool()
    board, worker = pool.board, pool.worker()
    calls: list[Callable[[], object]] = [
        lambda: board.arm_each(task, EPOCH, 0, [0]),
        lambda: board.arm_range(task, 2, EPOCH),
        lambda: board.arm_range(CAPACITY - 1, 2, EPOCH),
        lambda: board.snapshot(task, 2),
        lambda: board.durations(np.empty(CAPACITY + 1)),
        lambda: board.retry(task),
        lambda: board.give_up(task),
        lambda: board.state(task),
        lambda: board.started_ns(task),
        lambda: worker.input(task),
        lambda: worker.epoch_of(task),
        lambda: worker.commit_inline(task, None),
        lambda: worker.commit(task, False, 0, 0),
    ]
    for call in calls:
        with pytest.raises(IndexError):
            call()
    assert board.ready(2**32 - 1) == []
    assert board.claimed_by(0, 2**32 - 1) == []


def test_harvest_needs_room_for_every_task(make_pool: MakePool) -> None:
    board = make_pool().board
    for count, seen, results in ((CAPACITY + 1, 99, 99), (4, 3, 4), (4, 4, 3)):
        with pytest.raises(IndexError):
            board.harvest(EPOCH, count, bytearray(seen), [None] * results)


def test_a_worker_has_a_slot(make_pool: MakePool) -> None:
    pool = make_pool()
    calls: list[Callable[[], object]] = [
        lambda: pool.worker(SLOTS),
        lambda: pool.board.phase(SLOTS),
        lambda: pool.board.set_phase(SLOTS, 1),
        lambda: pool.board.child_status(SLOTS),
        lambda: pool.board.set_child_status(SLOTS, 1),
        lambda: pool.board.running_on(SLOTS),
    ]
    for call in calls:
        with pytest.raises(IndexError, match=f"worker {SLOTS} of a board with {SLOTS} slots"):
            call()


@pytest.mark.parametrize("verb", ["take", "run", "commit_inline", "commit"])
def test_only_a_worker_takes_and_commits(make_pool: MakePool, verb: str) -> None:
    pool = make_pool()
    assert callable(getattr(pool.worker(), verb))
    assert not hasattr(pool.board, verb)


def test_slots_tell_of_their_workers(make_pool: MakePool) -> None:
    board = make_pool().board
    assert (board.phase(1), board.child_status(1)) == (0, None)
    board.set_phase(1, states.SLOT_READY)
    for status in (0, 9, None):
        board.set_child_status(1, status)
        assert board.child_status(1) == status
    assert (board.phase(0), board.phase(1)) == (0, states.SLOT_READY)


def test_a_hint_beyond_the_board_is_dropped(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.ring.push([EPOCH << 32 | CAPACITY])
    pool.board.close()
    assert pool.worker().take() == -1
    assert len(pool.ring) == 0


def test_an_audit_finds_what_no_process_writes(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.start(1)
    assert pool.board.audit(EPOCH, 1, bytearray(1)) == []
    with pytest.raises(Exception, match="no correct process writes"):
        pool.board.audit(EPOCH + 1, 1, bytearray(1))
    pool.board.close()
    with pytest.raises(Exception, match="no correct process writes"):
        pool.board.audit(EPOCH, 1, bytearray(1))
