"""ClusterMapper over processes that stand for nodes: what no mapper of one machine has."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor as Threads
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    ConfigError,
    Row,
    SegmentError,
    SegmentTimeout,
    TransferError,
    WalkerBlock,
    Worker,
    WorkerDied,
    WorkerInitError,
    WorkerMapper,
)
from ringwalk.cluster import Broadcast, ClusterMapper
from ringwalk.cluster.cutter import AHEAD, MOST_WALKERS, Cutter
from ringwalk.errors import NodeLostError

MakeCluster = Callable[..., ClusterMapper]


def processes(nodes: int) -> Executor:
    return ProcessPoolExecutor(nodes, multiprocessing.get_context("fork"))


@pytest.fixture
def cluster() -> MakeCluster:
    def make(*args: Any, nodes: int = 2, **options: Any) -> ClusterMapper:
        options.setdefault("start_method", "fork")
        return ClusterMapper(partial(processes, nodes), *args, nodes=nodes, **options)

    return make


def square(k: int) -> int:
    return k * k


# --- batches ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 7, 1000])
def test_results_are_in_input_order_whatever_the_batches(
    cluster: MakeCluster, batch_size: int | None
) -> None:
    with cluster(square, 2, batch_size=batch_size) as mapper:
        for _ in range(2):
            assert mapper.map(range(100)) == [k * k for k in range(100)]
        assert sum(map(len, mapper.worker_segment_times.values())) == 100
        assert sorted(mapper.timeline.records["walker"]) == list(range(100))
        assert len(mapper.nodes) <= 2
        assert {node.host for node in mapper.nodes} == {socket.gethostname()}


def test_rows_keep_their_numbers_on_every_node(cluster: MakeCluster) -> None:
    def stamp(row: Row, by: float) -> Row:
        assert row.x == row.index
        row.x += by
        row.inner[1] = -row.index
        return row

    with WalkerBlock(50, x="f8", inner=((2,), "i4")) as block:
        block["x"] = np.arange(50)
        with cluster(stamp, 2, batch_size=8) as mapper:
            rows = mapper.map(block, itertools.repeat(0.5))
        assert [row.index for row in rows] == list(range(50))
        assert block["x"].tolist() == [k + 0.5 for k in range(50)]
        assert block["inner"].tolist() == [[0, -k] for k in range(50)]


def test_streams_are_those_of_one_machine(cluster: MakeCluster) -> None:
    def draw(k: int, rng: np.random.Generator) -> tuple[float, float]:
        return rng.random(), np.random.random()

    with WorkerMapper(draw, 2, seed=5) as local:
        expected = [local.map(range(20)) for _ in range(2)]
    for batch_size in (3, None):
        with cluster(draw, 2, seed=5, batch_size=batch_size) as mapper:
            assert [mapper.map(range(20)) for _ in range(2)] == expected


def test_large_arrays_there_and_back(cluster: MakeCluster) -> None:
    def double(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array *= 2
        return array

    arrays = [np.full(100_000, float(k)) for k in range(6)]
    with cluster(double, 2) as mapper:
        results = mapper.map(arrays)
    assert all((result == 2.0 * k).all() for k, result in enumerate(results))
    assert all((array == k).all() for k, array in enumerate(arrays))


def test_a_batch_is_a_moment_s_work_and_a_fair_share() -> None:
    cutter = Cutter(nodes=4, fixed=None)
    cutter.workers = 12
    assert cutter.size(1000) == 12  # nothing is known: one for each worker
    assert cutter.size(24) == 6  # rather all nodes than all workers of some
    cutter.learn(12, 60.0)
    assert cutter.size(1000) == 12
    quick = Cutter(nodes=4, fixed=None)
    quick.learn(1000, 0.1)
    assert quick.size(100_000) == 1000
    assert quick.size(800) == 800 // (4 * AHEAD)
    assert quick.size(1) == 1
    assert Cutter(nodes=4, fixed=256).size(100) == 100


def test_short_batches_travel_together() -> None:
    cutter = Cutter(nodes=2, fixed=256)
    assert cutter.load(100 * 256, calls=4) == (256, 256)  # nothing is known
    cutter.learn(256, 0.001)
    assert cutter.load(100 * 256, calls=4) == (25 * 256, 256)  # a fair share
    assert cutter.load(1000 * 256, calls=4) == (50 * 256, 256)  # or as many as take 50 ms
    assert cutter.load(12 * 256, calls=4) == (4 * 256, 256)  # hardly less than 5 ms, and even
    assert cutter.load(1, calls=4) == (1, 1)
    cutter.learn(256, 0.1)
    assert cutter.load(100 * 256, calls=4) == (256, 256)
    instant = Cutter(nodes=1, fixed=256)
    instant.learn(256, 0.0)
    assert instant.load(12 * 256, calls=2) == (12 * 256, 256)
    assert MOST_WALKERS * 0.9 < instant.load(10**6, calls=2)[0] <= MOST_WALKERS


# --- values that stay ------------------------------------------------------------------------


class Opened:
    """Writes down where it is unpickled."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.numbers = np.arange(10_000.0)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")


def test_a_broadcast_is_opened_once_a_worker(cluster: MakeCluster, tmp_path: Path) -> None:
    log = tmp_path / "opened"

    def use(k: int, value: Opened) -> float:
        with pytest.raises(ValueError, match="read-only"):
            value.numbers[0] = 1
        return float(value.numbers[k])

    value = Broadcast(Opened(log))
    with cluster(use, 2, batch_size=5) as mapper:
        for _ in range(3):
            assert mapper.map(range(40), itertools.repeat(value)) == list(range(40))
        workers = sum(node.workers for node in mapper.nodes)
    opened = log.read_text().split()
    assert len(opened) == len(set(opened)) <= workers


class CountsSent(Threads):
    """Counts the loads that bring a value."""

    def __init__(self) -> None:
        super().__init__(1)
        self.brought = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.brought += len(getattr(args[0], "broadcasts", ()))
        return super().submit(fn, *args, **kwargs)


def test_a_broadcast_is_sent_once_a_node() -> None:
    engine = CountsSent()
    with engine, ClusterMapper(engine, pow, 1, batch_size=3) as mapper:
        for times in range(1, 3):
            value = Broadcast(2)
            for _ in range(3):
                squares = mapper.map(range(60), itertools.repeat(value))
                assert squares == [k * k for k in range(60)]
            assert engine.brought == times


def test_a_broadcast_elsewhere_is_the_value_alone() -> None:
    with WorkerMapper(max, 1) as mapper:
        assert mapper.map([[1, 5]], itertools.repeat(Broadcast([2]))) == [[2]]


# --- failures --------------------------------------------------------------------------------


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

    with cluster(hang, 2, batch_size=2, timeout=0.2, on_error="finish") as mapper:
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


# --- engines and surroundings ----------------------------------------------------------------


def test_an_engine_of_the_caller_s_outlives_mappers() -> None:
    with Threads(1) as engine:
        forked = partial(ClusterMapper, engine, num_workers=1, start_method="fork")
        for _ in range(2):
            with forked(square) as mapper:
                assert mapper.map(range(5)) == [0, 1, 4, 9, 16]
        with forked(square) as one, forked(abs) as other:
            assert one.map([3]) == [9]
            assert other.map([-3]) == [3]
            assert one.map([4]) == [16]


class Doubling(Worker):
    def run_task(self, segment_func: Any, args: Any, kwargs: Any) -> Any:
        return self.attributes["factor"] * segment_func(*args, **kwargs)


def test_worker_types_wrap_each_call(cluster: MakeCluster) -> None:
    with cluster(square, 1, worker_type=Doubling, attributes={"factor": 2}) as mapper:
        assert mapper.worker_type is Doubling
        assert mapper.map([3]) == [18]


def test_devices_are_entries_of_what_the_node_was_granted(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapper = cluster(lambda k, device: (device, os.environ["CUDA_VISIBLE_DEVICES"]), 2, "auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")  # the nodes' own, once they start
    with mapper:
        assert mapper.nodes[0].devices == ("4", "7")
        assert "CUDA_VISIBLE_DEVICES=4,7" in mapper.nodes[0].found
        assert set(mapper.map(range(40))) <= {(0, "4"), (1, "7")}


def test_one_core_of_several_is_warned_of(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "64")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        with cluster(square, nodes=1) as mapper:
            assert mapper.num_workers == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert f"{socket.gethostname()} may run on 1 CPU only, but has 64" in caplog.text


def test_workers_of_an_mpi_rank_know_nothing_of_it(
    cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")

    def told(k: int) -> list[str]:
        return [name for name in os.environ if name.startswith(("PMI", "OMPI"))]

    with ClusterMapper(partial(Threads, 1), told, 1) as mapper:
        assert mapper.map([0]) == [[]]
    assert os.environ["PMI_RANK"] == "1"
    with pytest.raises(ConfigError, match="PMI_RANK is set"):
        cluster(told, 1, start_method="fork").init()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"nodes": 0}, "nodes is 0"),
        ({"nodes": "all"}, "nodes is 'all'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"schedule": "longest"}, "schedule is 'longest'"),
        ({"start_method": "thread"}, "start_method is 'thread'"),
        ({"devices": "first"}, "devices is 'first'"),
        ({"worker_type": int}, "worker_type"),
    ],
)
def test_unusable_options_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ClusterMapper(Threads, square, **options)
    with pytest.raises(ConfigError, match="engine is 3"):
        ClusterMapper(3, square)  # type: ignore[arg-type]
