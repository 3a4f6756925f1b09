"""ClusterMapper over processes that stand for nodes: what fails, who dies, what comes of it."""

from __future__ import annotations

import itertools
import multiprocessing.connection
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures import ThreadPoolExecutor as Threads
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ringwalk import (
    ConfigError,
    SegmentError,
    SegmentTimeout,
    TransferError,
    WorkerDied,
    WorkerInitError,
)
from ringwalk.cluster import ClusterMapper
from ringwalk.errors import NodeLostError

MakeCluster = Callable[..., ClusterMapper]


def square(k: int) -> int:
    return k * k


def test_errors_keep_the_numbers_of_their_walkers(cluster: MakeCluster) -> None:
    def fail(k: int) -> int:
        if k in (7, 23):
            raise KeyError(k)
        return k

    with cluster(fail, 2, batch_size=5, on_error="finish") as mapper:
        with pytest.raises(SegmentError) as caught:
            mapper.map(range(30))
    error = caught.value
    assert list(error.errors) == [7, 23]
    assert error.completed == [k for k in range(30) if k not in (7, 23)]
    assert "in fail" in error.remote_traceback
    assert isinstance(error.errors[23].__cause__, KeyError)
    assert error.errors[23].__cause__.args == (23,)
    assert any(socket.gethostname() in note for note in error.__notes__)


def test_a_worker_s_death_costs_an_attempt_or_the_walker(
    cluster: MakeCluster, tmp_path: Path
) -> None:
    def die(k: int) -> int:
        if k == 3 or (k == 5 and not os.path.exists(tmp_path / "died")):
            if k == 5:
                (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return k

    with cluster(die, 2, batch_size=4, on_error="finish") as mapper:
        with pytest.raises(WorkerDied) as caught:
            mapper.map(range(12))
    assert caught.value.walker == 3
    assert caught.value.signal == signal.SIGKILL
    assert caught.value.attempts == 2
    assert caught.value.completed == [k for k in range(12) if k != 3]


def test_a_segment_that_overruns_is_ended(cluster: MakeCluster) -> None:
    def hang(k: int) -> int:
        if k == 2:
            signal.pause()
        return k

    with cluster(hang, 2, batch_size=2, timeout=2.0, on_error="finish") as mapper:
        with pytest.raises(SegmentTimeout) as caught:
            mapper.map(range(4))
    assert caught.value.completed == [0, 1, 3]


class Unopenable:
    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def _explode() -> None:
    raise RuntimeError("not here")


@pytest.mark.parametrize("bad", [Unopenable(), (k for k in range(3))], ids=["open", "pickle"])
def test_an_argument_that_cannot_travel(cluster: MakeCluster, bad: Any) -> None:
    with cluster(lambda value: 1, 2, on_error="finish", batch_size=2) as mapper:
        with pytest.raises(TransferError) as caught:
            mapper.map([[1], [2], [3], bad])
        assert caught.value.walker == 3
        assert caught.value.results == {0: 1, 1: 1} | ({2: 1} if 2 in caught.value.results else {})
        assert mapper.map([[1]]) == [1]


def test_a_result_that_cannot_travel(cluster: MakeCluster) -> None:
    with cluster(lambda k: Unopenable() if k == 1 else k, 2, on_error="finish") as mapper:
        with pytest.raises(TransferError) as caught:
            mapper.map(range(4))
    assert caught.value.walker == 1
    assert caught.value.results == {0: 0, 2: 2, 3: 3}


def test_what_fails_at_the_start_is_told_by_init(cluster: MakeCluster) -> None:
    def refuse(device: Any) -> None:
        raise ValueError("no context")

    mapper = cluster(square, 1, worker_init=refuse)
    with pytest.raises(WorkerInitError, match="no context"):
        mapper.init()
    with pytest.raises(ConfigError, match="segment function"):
        cluster(partial(square, (k for k in ())), 1).init()


def test_nothing_of_an_aborted_map_surfaces_later(cluster: MakeCluster) -> None:
    with cluster(lambda a, b: (a, b), 2, batch_size=3) as mapper:
        for call in range(5):
            pairs = mapper.map_unordered(range(60), itertools.repeat(call))
            next(pairs)
            pairs.close()  # type: ignore[attr-defined]
        assert mapper.map(range(30), itertools.repeat("last")) == [(k, "last") for k in range(30)]


# --- lost nodes ------------------------------------------------------------------------------


def test_a_lost_node_is_named_and_what_finished_is_kept(cluster: MakeCluster) -> None:
    def kill(k: int, victims: tuple[int, ...]) -> int:
        if k == 12:
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
        return k

    with cluster(kill, 1, nodes=1, batch_size=4, max_retries=5) as mapper:
        victims = tuple(node.pid for node in mapper.nodes)
        with pytest.raises(NodeLostError) as caught:
            mapper.map(range(20), itertools.repeat(victims))
        error = caught.value.errors[12]  # batches that travelled with it were lost, too
        assert isinstance(error, NodeLostError)
        assert isinstance(error, BrokenExecutor)
        assert error.host == socket.gethostname()
        assert error.batch == 4
        assert error.walkers == range(12, 16)
        assert "batch 4 of map 1 (walkers 12 to 15) did not come back" in str(error)
        kept = range(min(caught.value.errors))
        assert caught.value.results == {k: k for k in kept}
        assert len(kept) >= 8  # before anything is known of their time, batches travel alone
        with pytest.raises(NodeLostError):  # this engine does not survive it
            mapper.map([1], [()])


class Forgetful(Threads):
    """An engine that survives, and loses the first calls of some batches."""

    def __init__(self, losses: int) -> None:
        super().__init__(1)
        self.losses = losses

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.losses and getattr(args[0], "first", 0) == 4:
            self.losses -= 1
            lost: Future[Any] = Future()
            lost.set_exception(ConnectionError("the node is gone"))
            return lost
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize(("losses", "retries", "ends_well"), [(2, 2, True), (2, 1, False)])
def test_a_lost_batch_is_sent_again(losses: int, retries: int, ends_well: bool) -> None:
    engine = partial(Forgetful, losses)
    with ClusterMapper(engine, square, 1, batch_size=4, max_retries=retries) as mapper:
        if ends_well:
            assert mapper.map(range(12)) == [k * k for k in range(12)]
        else:
            with pytest.raises(NodeLostError, match="the node is gone") as caught:
                mapper.map(range(12))
            assert caught.value.walkers == range(4, 8)
            assert isinstance(caught.value.__cause__, ConnectionError)


class LosesSeveral(Threads):
    """Loses the first call that brings more than one batch."""

    def __init__(self) -> None:
        super().__init__(1)
        self.lost: list[int] = []
        self.sent_again: list[int] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        numbers = list(getattr(args[0], "batches", ()))
        if self.lost and numbers and numbers[0] in self.lost:
            self.sent_again += numbers
        if len(numbers) > 1 and not self.lost:
            self.lost = numbers
            lost: Future[Any] = Future()
            lost.set_exception(ConnectionError("the node is gone"))
            return lost
        return super().submit(fn, *args, **kwargs)


def test_batches_that_are_lost_together_are_sent_again() -> None:
    with (
        LosesSeveral() as engine,
        ClusterMapper(engine, square, 1, batch_size=4, max_retries=1) as mapper,
    ):
        while not engine.lost:  # once a batch was seen to be short
            assert mapper.map(range(400)) == [k * k for k in range(400)]
        assert engine.sent_again == engine.lost  # one by one


@pytest.mark.parametrize("count", [399, 400])
def test_batches_that_run_together_are_taken_apart_when_they_are_lost(count: int) -> None:
    with (
        LosesSeveral() as engine,
        ClusterMapper(engine, square, 1, batch_size=4, max_retries=0, on_error="finish") as mapper,
    ):
        error: NodeLostError | None = None
        while error is None:
            try:
                assert mapper.map(range(count)) == [k * k for k in range(count)]
            except NodeLostError as caught:
                error = caught
        assert error.batch == engine.lost[0]
        assert error.walkers == range(4 * (error.batch - 1), 4 * error.batch)
        assert {lost.batch for lost in error.errors.values()} == set(engine.lost)
        assert set(error.errors) | set(error.results) == set(range(count))


def test_a_killed_node_leaves_no_workers(cluster: MakeCluster) -> None:
    with cluster(lambda k: os.getpid(), 2, nodes=1) as mapper:
        workers = [os.pidfd_open(pid) for pid in set(mapper.map(range(50)))]
        os.kill(mapper.nodes[0].pid, signal.SIGKILL)
        for pidfd in workers:
            assert multiprocessing.connection.wait([pidfd], 30)
            os.close(pidfd)


@pytest.mark.parametrize("line", range(1, 20))
def test_an_interrupted_wait_keeps_no_lock_that_the_engine_needs(
    line: int, ctrl_c_in_wait: Callable[..., Any]
) -> None:
    """At each line of the wait, wherever its code is from: the engine has to come to an end."""
    submitted = False

    class Noting(Threads):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            nonlocal submitted
            future = super().submit(fn, *args, **kwargs)
            submitted = bool(getattr(args[0], "epoch", 0))
            return future

    def segment(walker: int) -> int:
        threading.Event().wait(0.01)  # so that the wait comes before the end of what it waits for
        return walker

    with Noting(1) as engine, ClusterMapper(engine, segment, 1, start_method="fork") as mapper:
        pressed = ctrl_c_in_wait("cluster/call.py", line, lambda: submitted)
        with pytest.raises(KeyboardInterrupt), pressed:
            mapper.map([1])
        assert mapper.map([2]) == [2]
