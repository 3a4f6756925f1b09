"""What was made and dropped is gone at once, without the cyclic collector: memory and descriptors.

Who runs the collector by hand, or seldom, would else keep every pool that he ever made.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import select
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import Executor, MapError, Mapper, SerialMapper, ThreadMapper, WalkerBlock
from ringwalk.cluster import ClusterMapper
from ringwalk.distributors import CommandDistributor
from ringwalk.futures.work_manager import (
    ProcessWorkManager,
    SerialWorkManager,
    ThreadsWorkManager,
    WorkManager,
)
from ringwalk.memory import RunTable
from ringwalk.runners import ForkRunner, LocalRunner, PoolRunner, Runner

_SHARED = ("/memfd:ringwalk", "/dev/shm/", "/dev/zero")


def owned() -> tuple[list[str], list[str]]:
    """Descriptors of this process, and its mappings of memory that others may share."""
    descriptors = []
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors.append(os.readlink(f"/proc/self/fd/{name}").split(":")[0])
        except FileNotFoundError:  # the one that lists the folder
            continue
    lines = Path("/proc/self/maps").read_text().splitlines()
    mappings = [line.split(maxsplit=5)[-1] for line in lines if any(s in line for s in _SHARED)]
    return sorted(descriptors), sorted(mappings)


@pytest.fixture
def returned() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Run a function twice with the collector off: the second time it leaves nothing."""

    def check(use: Callable[[], object]) -> None:
        use()  # what is made once in a process stays
        before = owned()
        use()
        assert owned() == before

    gc.collect()
    gc.disable()
    yield check
    gc.enable()


Returned = Callable[[Callable[[], object]], None]


def segment(x: int) -> np.ndarray[Any, Any]:
    return np.full(300_000, x, "u1")


def failing(x: int) -> np.ndarray[Any, Any]:
    if x == 2:
        raise ValueError(x)
    return segment(x)


def test_a_mapper_after_cleanup(any_mapper: type[Mapper], returned: Returned) -> None:
    def use() -> None:
        with any_mapper(segment, num_workers=1) as mapper:
            assert len(mapper.map(range(3))) == 3

    returned(use)


def test_results_that_outlive_the_mapper(process_mapper: type[Mapper], returned: Returned) -> None:
    def use() -> None:
        with process_mapper(segment, num_workers=1) as mapper:
            results = mapper.map(range(3))
        assert [int(result[-1]) for result in results] == [0, 1, 2]

    returned(use)


def test_a_mapper_that_is_dropped(any_mapper: type[Mapper], returned: Returned) -> None:
    def use() -> None:
        mapper = any_mapper(segment, num_workers=1)
        mapper.init()
        mapper.map(range(3))

    returned(use)


@pytest.mark.parametrize("on_error", ["stop", "finish"])
def test_a_map_that_failed(any_mapper: type[Mapper], on_error: Any, returned: Returned) -> None:
    died: list[bool] = []

    def use() -> None:
        with any_mapper(failing, num_workers=1, on_error=on_error) as mapper:
            with pytest.raises(MapError) as caught:
                mapper.map(range(4))
            assert caught.value.errors[2] is caught.value
            results = list(caught.value.results.values())
            del caught
        # An array of the process mappers has its memory from a view: ask the array itself.
        watch = [weakref.ref(result) for result in results]
        results.clear()
        died.append(all(reference() is None for reference in watch))

    returned(use)
    assert died == [True, True]


def test_an_abandoned_iterator(any_mapper: type[Mapper], returned: Returned) -> None:
    def use() -> None:
        with any_mapper(segment, num_workers=1) as mapper:
            for _ in mapper.map_unordered(range(3)):
                break

    returned(use)


def fill(row: Any) -> None:
    row.x[:] = 1


def test_blocks(any_mapper: type[Mapper], returned: Returned) -> None:
    def use() -> None:
        block = WalkerBlock.create(3, {"x": ((1000,), "f8")})
        with any_mapper(fill, num_workers=1) as mapper:
            mapper.map(block)
        assert block["x"].sum() == 3000

    returned(use)


def test_a_cluster(returned: Returned) -> None:
    def nodes() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, multiprocessing.get_context("fork"))

    def use() -> None:
        with ClusterMapper(nodes, segment, nodes=1, start_method="fork") as mapper:
            assert len(mapper.map(range(3))) == 3

    returned(use)


def test_an_executor_after_shutdown(returned: Returned) -> None:
    def use() -> None:
        with Executor(1) as executor:
            futures = [executor.submit(failing, k) for k in range(3)]
            assert int(futures[1].result()[-1]) == 1
            assert isinstance(futures[2].exception(), ValueError)
            with pytest.raises(ValueError, match="2"):
                futures[2].result()
        del futures

    returned(use)


def test_an_executor_that_is_dropped(returned: Returned) -> None:
    def use() -> None:
        executor = Executor(1)
        executor.submit(segment, 1).result()
        # Its thread ends the workers; the last to go is the descriptor that wakes the thread.
        gone = os.pidfd_open(executor.submit(os.getpid).result())
        (thread,) = [executor._engine._dispatcher.thread]
        assert thread is not None
        del executor
        thread.join()
        assert select.select([gone], [], [], 60)[0]
        os.close(gone)

    returned(use)


@pytest.mark.parametrize(
    "make", [SerialWorkManager, lambda: ThreadsWorkManager(1), lambda: ProcessWorkManager(1)]
)
def test_work_managers(make: Callable[[], WorkManager], returned: Returned) -> None:
    def use() -> None:
        with make() as manager:
            assert int(manager.submit(segment, (3,)).get_result()[-1]) == 3

    returned(use)


def nothing(row: Any) -> None:
    """A run that leaves its row as it is."""


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda table: ForkRunner(nothing, table),
        lambda table: PoolRunner(nothing, table),
        lambda table: LocalRunner("true", table),
    ],
)
def test_runners(make: Callable[[Any], Runner], close: bool, returned: Returned) -> None:
    def use() -> None:
        table = RunTable({"u": "f8"})
        runner = make(table)
        runner.spawn({"u": 1.0})
        runner.wait_all()
        if close:
            runner.close()

    returned(use)


@pytest.mark.parametrize("stop", [True, False])
def test_distributors(stop: bool, returned: Returned) -> None:
    def use() -> None:
        distributor = CommandDistributor(1)
        distributor.start()
        distributor.submit("true")
        distributor.wait()
        if stop:
            distributor.stop()

    returned(use)


def test_local_mappers_keep_no_failed_attempt() -> None:
    """The frames of a segment that raised, with all their variables, go with its error."""

    class Token:
        pass

    tokens: list[weakref.ref[Token]] = []

    def leave(x: int) -> None:
        token = Token()
        tokens.append(weakref.ref(token))
        raise ValueError(x)

    gc.disable()
    try:
        for kind in (SerialMapper, ThreadMapper):
            with kind(leave, num_workers=1) as mapper, pytest.raises(MapError):
                mapper.map(range(2))
    finally:
        gc.enable()
    assert tokens
    assert all(token() is None for token in tokens)
