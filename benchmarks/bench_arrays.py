"""How fast do states go to the workers and come back? 1 KB to 10 MB of float64 a walker.

* rows of a block: the segment adds one to the row in place; the caller reads the block.
* arrays: ``f(a) = a + 1.0``, a new array a walker comes back, as in the rivals.
* arrays, read-only: the same with ``inputs="readonly"``.
* objects: a Python object that holds the array; a new one comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.contest import WORKERS, Contestant, Scenario, Times, mapping
from benchmarks.limits.in_process import SameProcess, memcpy
from benchmarks.limits.two_processes import copy_and_compute
from benchmarks.rivals.faster_fifo_pool import FasterFifoPool
from benchmarks.rivals.joblib_parallel import Joblib
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.rivals.shared_memory_slots import SharedMemorySlots
from benchmarks.rivals.thread_pool_executor import ThreadPoolExecutor
from benchmarks.rivals.wepy_mappers import WepyWorkerMapper
from benchmarks.segments import Array, add_one
from ringwalk import Row, WalkerBlock, WorkerMapper

# float64 numbers a state, walkers a map and rounds.
SIZES = {
    "1 KB": (125, 256, 5),
    "100 KB": (12_500, 64, 5),
    "1 MB": (125_000, 32, 7),
    "10 MB": (1_250_000, 6, 5),
}


ARRAYS, READ_ONLY = "arrays", "arrays, read-only"


class Holder:
    """A walker as users write them."""

    def __init__(self, state: Array) -> None:
        self.state = state


def add_one_to_holder(holder: Holder) -> Holder:
    return Holder(holder.state + 1.0)


def add_one_in_place(row: Row) -> None:
    row.state += 1.0


def make_arrays(walkers: int, length: int) -> list[Array]:
    return [np.full(length, float(k)) for k in range(walkers)]


def check_arrays(arrays: Sequence[Array], results: list[Array]) -> None:
    assert len(results) == len(arrays)
    for sent, returned in zip(arrays, results, strict=True):
        assert (returned == sent + 1.0).all()


def make_holders(walkers: int, length: int) -> list[Holder]:
    return [Holder(state) for state in make_arrays(walkers, length)]


def check_holders(sent: Sequence[Holder], returned: list[Holder]) -> None:
    check_arrays([holder.state for holder in sent], [holder.state for holder in returned])


class BlockMaps:
    """Maps a block again and again and counts, because each map adds one to all of it."""

    def __init__(self, mapper: WorkerMapper, block: WalkerBlock) -> None:
        self._mapper = mapper
        self._block = block
        self._first = block["state"][:, 0].copy()
        self._maps = 0

    def __call__(self) -> BlockMaps:
        self._mapper.map(self._block)
        self._maps += 1
        return self

    def check(self) -> None:
        expected = self._first + self._maps
        assert (self._block["state"] == expected[:, np.newaxis]).all()


@contextmanager
def rows_of_a_block(walkers: int, length: int) -> Iterator[BlockMaps]:
    with WalkerBlock(walkers, state=((length,), "f8")) as block:
        block["state"] = np.arange(walkers)[:, np.newaxis]
        with WorkerMapper(add_one_in_place, WORKERS) as mapper:
            yield BlockMaps(mapper, block)


def there_and_back(size: str) -> Scenario:
    length, walkers, rounds = SIZES[size]
    large = length >= 125_000

    def mapped(name: str, pool: Callable[..., Any], **options: Any) -> Contestant:
        opened = partial(pool, add_one, WORKERS, **options)
        return mapping(name, opened, partial(make_arrays, walkers, length), check_arrays)

    rows = Contestant("rows of a block", partial(rows_of_a_block, walkers, length), BlockMaps.check)
    targets: list[Times] = []
    if large:
        targets.append(Times("wepy WorkerMapper", 10))
    targets.append(Times("SharedMemory slots", 2 if size == "10 MB" else 1))
    if size == "10 MB":
        targets += [
            Times("no pool", 1 / 1.1, of=rows.name),
            *(Times("no pool", 1 / 1.5, of=name) for name in (ARRAYS, READ_ONLY)),
        ]
    return Scenario(
        f"{size} there and back",
        walkers,
        ours=(
            rows,
            mapped(ARRAYS, WorkerMapper),
            mapped(READ_ONLY, WorkerMapper, inputs="readonly"),
            mapping(
                "objects",
                partial(WorkerMapper, add_one_to_holder, WORKERS),
                partial(make_holders, walkers, length),
                check_holders,
            ),
        ),
        rivals=(
            mapped("ProcessPoolExecutor", ProcessPoolExecutor),
            mapped("SharedMemory slots", SharedMemorySlots, length=length),
            mapped("faster-fifo", FasterFifoPool),
            mapped("joblib", Joblib),
            mapped("wepy WorkerMapper", WepyWorkerMapper),
        ),
        targets=tuple(targets),
        floors=(
            mapped("ThreadPoolExecutor", ThreadPoolExecutor),
            mapping(
                "no pool",
                partial(SameProcess, add_one),
                partial(make_arrays, walkers, length),
                check_arrays,
            ),
        ),
        limits=(
            memcpy(walkers, length),
            copy_and_compute(walkers, partial(make_arrays, walkers, length), check_arrays),
        ),
        rounds=rounds,
    )


SCENARIOS = tuple(map(there_and_back, SIZES))


@pytest.mark.parametrize(
    "contestant",
    [
        pytest.param(
            contestant,
            id=f"{scenario.title}-{contestant}",
            marks=pytest.mark.benchmark(
                group=f"{scenario.title}, {scenario.walkers} walkers a map"
            ),
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
