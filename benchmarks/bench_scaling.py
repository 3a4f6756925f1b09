"""Does the overhead of a task stay flat as workers are added? No-ops on 1 to 256 of them.

The machine has fewer cores than that, so this shows what waking, scheduling and sharing one ring
cost, not speed-up. ``models/ring_contention.py`` tells what more cores would do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from benchmarks.bench_noop import check_none, no_op
from benchmarks.contest import Contestant, Scenario, Times, mapping
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from ringwalk import WalkerBlock, WorkerMapper

WALKERS = 2048
COUNTS = (1, 2, 4, 8, 64, 256)
REFERENCE = "WorkerMapper, 2 workers"
RIVAL_COUNTS = (2, 8, 64)
FLAT = 1.5


def rows_of_a_block(workers: int) -> Contestant:
    @contextmanager
    def opened() -> Iterator[Callable[[], tuple[WalkerBlock, list[Any]]]]:
        block = WalkerBlock(WALKERS, weight="f8")
        block["weight"] = np.arange(WALKERS)
        with block, WorkerMapper(no_op, workers) as mapper:
            yield lambda: (block, mapper.map(block))

    def check(outcome: tuple[WalkerBlock, list[Any]]) -> None:
        block, results = outcome
        assert results == [None] * WALKERS
        assert (block["weight"] == np.arange(WALKERS)).all()

    noun = "worker" if workers == 1 else "workers"
    return Contestant(f"WorkerMapper, {workers} {noun}", opened, check)


def rival(workers: int) -> Contestant:
    pool = partial(MultiprocessingPool, no_op, workers, chunksize=max(1, WALKERS // workers // 2))
    name = f"multiprocessing.Pool, {workers} workers"
    return mapping(name, pool, lambda: range(WALKERS), check_none)


CONTESTANTS = {workers: rows_of_a_block(workers) for workers in COUNTS}
SCENARIO = Scenario(
    "no-op on more workers than cores",
    WALKERS,
    ours=tuple(c for c in CONTESTANTS.values() if c.name != REFERENCE),
    rivals=tuple(map(rival, RIVAL_COUNTS)),
    targets=(Times(REFERENCE, 1 / FLAT),),
    floors=(CONTESTANTS[2],),
    rounds=3,
)


def bench_side_by_side(side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(SCENARIO)
