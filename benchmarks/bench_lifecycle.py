"""How long from nothing to nothing: workers started, two no-ops mapped, everything ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benchmarks.bench_noop import no_op
from benchmarks.contest import WORKERS, Contestant, Scenario, Times
from benchmarks.rivals.faster_fifo_pool import FasterFifoPool
from benchmarks.rivals.loky_executor import LokyExecutor
from benchmarks.rivals.mpire_pool import MpirePool
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.pebble_pool import PebblePool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.rivals.wepy_mappers import WepyWorkerMapper
from ringwalk import TaskMapper, WorkerMapper


def lifecycle(name: str, pool: Callable[[], Any]) -> Contestant:
    """Opens and closes the pool in what is timed."""

    def run() -> list[Any]:
        with pool() as running:
            results: list[Any] = running.map(range(WORKERS))
        return results

    @contextmanager
    def opened() -> Iterator[Callable[[], list[Any]]]:
        yield run

    return Contestant(name, opened, check)


def check(results: list[Any]) -> None:
    assert results == [None] * WORKERS


SCENARIO = Scenario(
    "start, map two, shut down",
    1,
    ours=(
        lifecycle("WorkerMapper", partial(WorkerMapper, no_op, WORKERS)),
        lifecycle("TaskMapper", partial(TaskMapper, no_op, WORKERS)),
    ),
    rivals=(
        lifecycle("ProcessPoolExecutor", partial(ProcessPoolExecutor, no_op, WORKERS)),
        lifecycle(
            "multiprocessing.Pool", partial(MultiprocessingPool, no_op, WORKERS, chunksize=1)
        ),
        lifecycle("loky", partial(LokyExecutor, no_op, WORKERS)),
        lifecycle("pebble", partial(PebblePool, no_op, WORKERS)),
        lifecycle("mpire", partial(MpirePool, no_op, WORKERS)),
        lifecycle("faster-fifo", partial(FasterFifoPool, no_op, WORKERS)),
        lifecycle("wepy WorkerMapper", partial(WepyWorkerMapper, no_op, WORKERS)),
    ),
    targets=(Times("multiprocessing.Pool", 1),),
    rounds=3,
)


def bench_side_by_side(side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(SCENARIO)
