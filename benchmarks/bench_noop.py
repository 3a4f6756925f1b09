"""How much does ringwalk itself cost a walker? Segments that do nothing.

* rows of a block: the walkers lie in shared memory. Rivals map bare integers, which is the least
  that they can carry; the walkers themselves would come on top.
* objects in: 1,000 Python walkers of 1 KB go to the workers, None comes back.
* objects there and back: the same walkers, and each comes back. Also walkers that hold a few
  numbers and no array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.contest import WORKERS, AtMost, Contestant, Scenario, Times, mapping
from benchmarks.limits.in_process import empty_calls
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.rivals.thread_pool_executor import ThreadPoolExecutor
from benchmarks.rivals.wepy_mappers import WepyWorkerMapper
from ringwalk import WalkerBlock, WorkerMapper

WALKERS = 1000
# The fastest chunks of 25, 50, 125, 250 and 500, tried in turns with ``interleave`` on 2 workers:
# 500 was 14 to 23 % faster than 250 for integers, 6 to 20 % slower for objects.
INTEGER_CHUNK = 500
OBJECT_CHUNK = 250


class Walker:
    """A walker as users write them; its state is 1 KB."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.weight = 1 / WALKERS
        self.positions: npt.NDArray[np.float64] = np.full(125, float(index))


class Particle:
    """A walker without an array."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.weight = 1 / WALKERS
        self.position = (0.1 * index, 0.2 * index, 0.3 * index)


def no_op(walker: Any) -> None:
    """The segment."""


def echo(walker: Any) -> Any:
    """A segment that leaves the walker as it is."""
    return walker


def integers() -> range:
    return range(WALKERS)


def make_walkers() -> list[Walker]:
    return [Walker(k) for k in range(WALKERS)]


def make_particles() -> list[Particle]:
    return [Particle(k) for k in range(WALKERS)]


@contextmanager
def rows_of_a_block() -> Iterator[Callable[[], tuple[WorkerMapper, WalkerBlock, list[Any]]]]:
    block = WalkerBlock(WALKERS, positions=((22, 3), "f8"), weight="f8")
    block["positions"] = np.arange(WALKERS)[:, np.newaxis, np.newaxis]
    with block, WorkerMapper(no_op, WORKERS) as mapper:
        yield lambda: (mapper, block, mapper.map(block))


def check_rows(outcome: tuple[WorkerMapper, WalkerBlock, list[Any]]) -> None:
    mapper, block, results = outcome
    assert results == [None] * WALKERS
    assert sum(map(len, mapper.worker_segment_times.values())) == WALKERS
    assert (block["positions"] == np.arange(WALKERS)[:, np.newaxis, np.newaxis]).all()


def check_none(walkers: Sequence[Any], results: list[Any]) -> None:
    assert results == [None] * len(walkers)


def check_echo(walkers: Sequence[Walker], results: list[Walker]) -> None:
    assert len(results) == len(walkers)
    for sent, returned in zip(walkers, results, strict=True):
        assert returned.index == sent.index
        assert (returned.positions == sent.positions).all()


def check_particles(particles: Sequence[Particle], results: list[Particle]) -> None:
    assert [vars(returned) for returned in results] == [vars(sent) for sent in particles]


def rivals(
    segment: Callable[[Any], Any],
    items: Callable[[], Sequence[Any]],
    check: Callable[[Sequence[Any], list[Any]], None],
    chunk: int,
) -> tuple[Contestant, ...]:
    pools: dict[str, Callable[[], Any]] = {
        "ProcessPoolExecutor": partial(ProcessPoolExecutor, segment, WORKERS),
        f"ProcessPoolExecutor/{chunk}": partial(
            ProcessPoolExecutor, segment, WORKERS, chunksize=chunk
        ),
        f"multiprocessing.Pool/{chunk}": partial(
            MultiprocessingPool, segment, WORKERS, chunksize=chunk
        ),
        "wepy WorkerMapper": partial(WepyWorkerMapper, segment, WORKERS),
    }
    return tuple(mapping(name, pool, items, check) for name, pool in pools.items())


def floors(
    segment: Callable[[Any], Any],
    items: Callable[[], Sequence[Any]],
    check: Callable[[Sequence[Any], list[Any]], None],
) -> tuple[Contestant, ...]:
    threads = partial(ThreadPoolExecutor, segment, WORKERS)
    return (mapping("ThreadPoolExecutor", threads, items, check),)


BLOCK = Scenario(
    "no-op, rows of a block",
    WALKERS,
    ours=(Contestant("WorkerMapper", rows_of_a_block, check_rows),),
    rivals=rivals(no_op, integers, check_none, INTEGER_CHUNK),
    floors=floors(no_op, integers, check_none),
    limits=(empty_calls(WALKERS),),
    targets=(
        AtMost(0.5e-6),
        Times("ProcessPoolExecutor", 100),
        Times("wepy WorkerMapper", 300),
        Times(None, 1),
    ),
)


def objects(
    title: str,
    segment: Callable[[Any], Any],
    items: Callable[[], Sequence[Any]],
    check: Callable[[Sequence[Any], list[Any]], None],
    most: float,
) -> Scenario:
    ours = mapping("WorkerMapper", partial(WorkerMapper, segment, WORKERS), items, check)
    return Scenario(
        title,
        WALKERS,
        ours=(ours,),
        rivals=rivals(segment, items, check, OBJECT_CHUNK),
        floors=floors(segment, items, check),
        targets=(AtMost(most), Times(None, 1), Times("wepy WorkerMapper", 40)),
    )


SCENARIOS = (
    BLOCK,
    objects("no-op, small objects there and back", echo, make_particles, check_particles, 3e-6),
    objects("no-op, 1 KB objects in", no_op, make_walkers, check_none, 5e-6),
    objects("no-op, 1 KB objects there and back", echo, make_walkers, check_echo, 5e-6),
)


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
