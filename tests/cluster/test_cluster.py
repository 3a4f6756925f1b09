"""ClusterMapper over processes that stand for nodes: what no mapper of one machine has."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor as Threads
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    ConfigError,
    Row,
    WalkerBlock,
    Worker,
    WorkerMapper,
)
from ringwalk.cluster import Broadcast, ClusterMapper
from ringwalk.cluster.cutter import AHEAD, MOST_WALKERS, Cutter

MakeCluster = Callable[..., ClusterMapper]


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
