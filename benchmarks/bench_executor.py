"""What does a submitted task cost? No-ops with 1,000 in flight, one at a time, and 10 MB arrays.

* 1,000 in flight: each is one ``submit``, nothing is batched; then each ``result``.
* one at a time: ``submit(...).result()``, against a byte through pipes between two processes, and
  beside what a future takes by itself and pipes between processes that run side by side.
* 10 MB there and back, against re-used SharedMemory slots written by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.contest import WORKERS, AtMost, Contestant, Pool, Scenario, Times, mapping
from benchmarks.limits.in_process import FutureAlone
from benchmarks.rivals.pipe_ping_pong import ping_pong
from benchmarks.rivals.shared_memory_slots import SharedMemorySlots
from benchmarks.rivals.submitting import apply_async, executor, process_pool
from ringwalk import Executor
from ringwalk.futures.work_manager import ProcessWorkManager

TASKS = 1000
LENGTH = 10 * (1 << 20) // 8

Array = npt.NDArray[np.float64]


def no_op(item: Any) -> None:
    """The task."""


def add_one(array: Array) -> Array:
    return array + 1


def integers(count: int) -> range:
    return range(count)


def arrays() -> list[Array]:
    return [np.full(LENGTH, float(k)) for k in range(6)]


def check_none(items: Sequence[Any], results: list[Any]) -> None:
    assert results == [None] * len(items)


def check_arrays(items: Sequence[Array], results: list[Array]) -> None:
    for item, result in zip(items, results, strict=True):
        assert (result == item + 1).all()


class OneByOne:
    """Waits for each task before the next is submitted."""

    def __init__(self, running: Any) -> None:
        self._running = running

    def map(self, items: Sequence[Any]) -> list[Any]:
        return [self._running.submit(no_op, item).result() for item in items]


@contextmanager
def one_by_one(make: Callable[[int], Any], workers: int) -> Iterator[OneByOne]:
    with make(workers) as running:
        yield OneByOne(running)


class Draining:
    """WESTPA's loop: submit all, then ``wait_any`` until none is left."""

    def __init__(self, manager: ProcessWorkManager) -> None:
        self._manager = manager

    def map(self, items: Sequence[Any]) -> list[Any]:
        pending = {self._manager.submit(no_op, (item,)) for item in items}
        results = []
        while pending:
            future = self._manager.wait_any(pending)
            pending.remove(future)
            results.append(future.get_result())
        return results


@contextmanager
def draining() -> Iterator[Draining]:
    with ProcessWorkManager(WORKERS) as manager:
        yield Draining(manager)


def no_ops(name: str, pool: Callable[[], AbstractContextManager[Pool]], count: int) -> Contestant:
    return mapping(name, pool, partial(integers, count), check_none)


IN_FLIGHT = Scenario(
    "1,000 no-ops in flight",
    TASKS,
    ours=(
        no_ops("Executor", partial(executor, Executor, no_op, WORKERS), TASKS),
        no_ops("ProcessWorkManager, wait_any", draining, TASKS),
    ),
    rivals=(
        no_ops("ProcessPoolExecutor", partial(executor, process_pool, no_op, WORKERS), TASKS),
        no_ops("multiprocessing.Pool", partial(apply_async, no_op, WORKERS), TASKS),
    ),
    targets=(AtMost(9e-6),),
)

ONE = Scenario(
    "one no-op at a time",
    200,
    ours=(no_ops("Executor", partial(one_by_one, Executor, WORKERS), 200),),
    rivals=(
        no_ops("pipes", ping_pong, 200),
        no_ops("ProcessPoolExecutor", partial(one_by_one, process_pool, WORKERS), 200),
    ),
    targets=(Times("pipes", 1 / 1.2),),
    limits=(
        no_ops("Future alone", partial(FutureAlone, no_op), 200),
        no_ops("pipes, two cores", partial(ping_pong, two_cores=True), 200),
    ),
)


def mapped(name: str, pool: Callable[[], AbstractContextManager[Pool]]) -> Contestant:
    return mapping(name, pool, arrays, check_arrays)


ARRAYS = Scenario(
    "submitted 10 MB arrays",
    6,
    ours=(
        mapped("Executor", partial(executor, Executor, add_one, WORKERS)),
        mapped(
            "Executor, read-only",
            partial(executor, partial(Executor, inputs="readonly"), add_one, WORKERS),
        ),
    ),
    rivals=(
        mapped("SharedMemory slots", partial(SharedMemorySlots, add_one, WORKERS, length=LENGTH)),
        mapped("ProcessPoolExecutor", partial(executor, process_pool, add_one, WORKERS)),
    ),
    targets=(Times("SharedMemory slots", 1 / 1.3),),
    rounds=5,
)

SCENARIOS = (IN_FLIGHT, ONE, ARRAYS)


@pytest.mark.parametrize(
    "contestant",
    [
        pytest.param(
            contestant,
            id=f"{scenario.title}-{contestant}",
            marks=pytest.mark.benchmark(group=f"{scenario.title}, {scenario.walkers} tasks"),
        )
        for scenario in SCENARIOS
        for contestant in scenario.contestants
    ],
)
def bench_each(contestant: Contestant, tabulate: Callable[[Contestant], None]) -> None:
    tabulate(contestant)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def bench_side_by_side(scenario: Scenario, side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(scenario)
