"""What does a cycle cost in which most walkers are clones? 90% of them from 10% of the parents.

Each map takes the walkers of the last one through a resampling and then a segment that adds one.
Rows of a block are copied by ``block.resample``. Lists of arrays are resampled by reference, which
costs nothing, but every clone is sent by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.bench_arrays import add_one_in_place, make_arrays
from benchmarks.contest import WORKERS, Contestant, Scenario, Times
from benchmarks.limits.in_process import memcpy
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.rivals.wepy_mappers import WepyWorkerMapper
from benchmarks.segments import Array, add_one
from ringwalk import WalkerBlock, WorkerMapper

WALKERS = 64
LENGTH = 12_500  # float64 numbers: 100 KB


def parents() -> npt.NDArray[np.int64]:
    """For each walker whom it is a copy of: nine in ten descend from every tenth walker."""
    chosen = np.arange(WALKERS)
    clones = np.flatnonzero(chosen % 10 != 0)
    chosen[clones] = chosen[::10][np.arange(len(clones)) % len(chosen[::10])]
    return chosen


PARENTS = parents()


class Cycles:
    """What the walkers must be after so many cycles."""

    def __init__(self, run: Callable[[], npt.NDArray[np.float64]]) -> None:
        self._run = run
        self._expected = np.arange(WALKERS, dtype=np.float64)
        self.firsts: npt.NDArray[np.float64] = self._expected

    def __call__(self) -> Cycles:
        self._expected = self._expected[PARENTS] + 1.0
        self.firsts = self._run()
        return self

    def check(self) -> None:
        assert (self.firsts == self._expected).all()


@contextmanager
def rows_of_a_block() -> Iterator[Cycles]:
    with WalkerBlock(WALKERS, state=((LENGTH,), "f8")) as block:
        block["state"] = np.arange(WALKERS)[:, np.newaxis]
        with WorkerMapper(add_one_in_place, WORKERS) as mapper:

            def cycle() -> npt.NDArray[np.float64]:
                block.resample(PARENTS)
                mapper.map(block)
                return block["state"][:, -1]

            yield Cycles(cycle)


@contextmanager
def lists_of_arrays(pool: Callable[[], Any]) -> Iterator[Cycles]:
    walkers: list[Array] = make_arrays(WALKERS, LENGTH)
    with pool() as running:

        def cycle() -> npt.NDArray[np.float64]:
            nonlocal walkers
            walkers = running.map([walkers[parent] for parent in PARENTS])
            return np.array([walker[-1] for walker in walkers])

        yield Cycles(cycle)


def arrays(name: str, pool: Callable[..., Any], **options: Any) -> Contestant:
    opened = partial(pool, add_one, WORKERS, **options)
    return Contestant(name, partial(lists_of_arrays, opened), Cycles.check)


SCENARIO = Scenario(
    "clone 90% of 100 KB walkers, add one",
    WALKERS,
    ours=(
        Contestant("rows of a block", rows_of_a_block, Cycles.check),
        arrays("arrays", WorkerMapper),
        arrays("arrays, read-only", WorkerMapper, inputs="readonly"),
    ),
    rivals=(
        arrays("ProcessPoolExecutor", ProcessPoolExecutor),
        arrays("multiprocessing.Pool/8", MultiprocessingPool, chunksize=8),
        arrays("wepy WorkerMapper", WepyWorkerMapper),
    ),
    targets=(Times(None, 1), Times("wepy WorkerMapper", 10)),
    limits=(memcpy(WALKERS, LENGTH),),
    rounds=5,
)


def bench_side_by_side(side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(SCENARIO)
