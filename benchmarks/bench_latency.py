"""How long does one task take, from the call to its result, while nothing else is going on?

Every contestant maps one no-op at a time; the limits say one word to another process and wait for
the answer. Median and 99th percentile are taken within each turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench_executor import one_by_one
from benchmarks.bench_noop import no_op
from benchmarks.contest import WORKERS, Scenario, Times, named
from benchmarks.interleave import Timing
from benchmarks.limits.native import ping_pong
from benchmarks.rivals.faster_fifo_pool import FasterFifoPool
from benchmarks.rivals.mpire_pool import MpirePool
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.pebble_pool import PebblePool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.scoreboard import Scoreboard
from ringwalk import Executor, WalkerBlock, WorkerMapper

ROUNDS = 5
WARM_UPS = 20
TASKS = 400
# No contestant gets longer than this a turn.
TURN_S = 0.5
WAKE_UP = 2.0


class _OneRow:
    """A block of one walker, mapped for each item."""

    def __init__(self, mapper: WorkerMapper, block: WalkerBlock) -> None:
        self._mapper = mapper
        self._block = block

    def map(self, items: Sequence[Any]) -> list[Any]:
        return self._mapper.map(self._block)


@contextmanager
def one_row() -> Iterator[_OneRow]:
    with WalkerBlock(1, weight="f8") as block, WorkerMapper(no_op, WORKERS) as mapper:
        yield _OneRow(mapper, block)


OURS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "WorkerMapper, a row": one_row,
    "Executor": partial(one_by_one, Executor, WORKERS),
}
RIVALS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "ProcessPoolExecutor": partial(ProcessPoolExecutor, no_op, WORKERS),
    "multiprocessing.Pool": partial(MultiprocessingPool, no_op, WORKERS, chunksize=1),
    "pebble": partial(PebblePool, no_op, WORKERS),
    "mpire": partial(MpirePool, no_op, WORKERS),
    "faster-fifo": partial(FasterFifoPool, no_op, WORKERS),
}
LIMITS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "futex ping-pong": partial(ping_pong, False),
    "futex ping-pong, two cores": partial(ping_pong, False, two_cores=True),
    "pipe ping-pong": partial(ping_pong, True),
}


def one_at_a_time(pool: Callable[[], AbstractContextManager[Any]]) -> list[float]:
    """Seconds of each task of one turn."""
    clock = time.perf_counter
    item = (0,)
    seconds: list[float] = []
    with pool() as running:
        for _ in range(WARM_UPS):
            assert running.map(item) == [None]
        until = clock() + TURN_S
        while not seconds or (clock() < until and len(seconds) < TASKS):
            start = clock()
            results = running.map(item)
            seconds.append(clock() - start)
            assert results == [None]
    return seconds


def scenario(title: str) -> Scenario:
    return Scenario(
        title,
        1,
        ours=tuple(map(named, OURS)),
        rivals=tuple(map(named, RIVALS)),
        # A worker sits on another core than its parent, or there would be no use in it.
        targets=(Times("futex ping-pong, two cores", 1 / WAKE_UP), Times(None, 1)),
        limits=tuple(map(named, LIMITS)),
        rounds=ROUNDS,
    )


def bench_one_task(scoreboard: Scoreboard) -> None:
    pools = {**OURS, **RIVALS, **LIMITS}
    turns: dict[str, list[list[float]]] = {name: [] for name in pools}
    for number in range(ROUNDS):
        for name in pools if number % 2 == 0 else reversed(pools):
            turns[name].append(one_at_a_time(pools[name]))
    for title, percent in (("one task, median", 50), ("one task, 99th percentile", 99)):
        timings = {
            name: Timing(np.array([np.percentile(turn, percent) for turn in each]), np.hstack(each))
            for name, each in turns.items()
        }
        scoreboard.judge(scenario(title), timings)
