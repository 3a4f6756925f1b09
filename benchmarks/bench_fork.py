"""What does a process of its own for each walker cost? Segments that do nothing.

The floors are bare ``os.fork``/``os.waitpid`` with as many tasks at a time: in one process, and in
as many as there are workers, which is TaskMapper's own parallelism and the harder one to keep up
with. They bring nothing back and notice nothing; TaskMapper brings results, times and causes of
death.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from benchmarks.contest import WORKERS, Contestant, Scenario, Times, mapping
from benchmarks.limits.native import bare_fork
from benchmarks.rivals.fork_loop import ForkLoop, ForkLoops
from benchmarks.rivals.wepy_mappers import WepyTaskMapper
from ringwalk import TaskMapper

WALKERS = 64
# How many times as long as a bare loop TaskMapper may take.
ALLOWANCE = 1.3


def no_op(walker: int) -> None:
    """The segment."""


def walkers() -> Sequence[int]:
    return range(WALKERS)


@contextmanager
def task_mapper() -> Iterator[Callable[[], tuple[TaskMapper, list[Any]]]]:
    with TaskMapper(no_op, WORKERS) as mapper:
        yield lambda: (mapper, mapper.map(walkers()))


def check_ours(outcome: tuple[TaskMapper, list[Any]]) -> None:
    mapper, results = outcome
    assert results == [None] * WALKERS
    assert sum(map(len, mapper.worker_segment_times.values())) == WALKERS


def check_one(items: Sequence[int], statuses: list[int]) -> None:
    assert statuses == [0] * len(items)


def check_loops(items: Sequence[int], statuses: list[int]) -> None:
    assert statuses == [0] * WORKERS


def check_none(items: Sequence[int], results: list[Any]) -> None:
    assert results == [None] * len(items)


SCENARIO = Scenario(
    "a process a walker, no-op",
    WALKERS,
    ours=(Contestant("TaskMapper", task_mapper, check_ours),),
    rivals=(
        mapping("fork loop", partial(ForkLoop, no_op, WORKERS), walkers, check_one),
        mapping("fork loops", partial(ForkLoops, no_op, WORKERS), walkers, check_loops),
        mapping("wepy TaskMapper", partial(WepyTaskMapper, no_op, WORKERS), walkers, check_none),
    ),
    targets=(
        Times("fork loop", 1 / ALLOWANCE),
        Times("fork loops", 1 / ALLOWANCE),
        Times("wepy TaskMapper", 8),
    ),
    limits=(bare_fork(WALKERS),),
)


@pytest.mark.benchmark(group=f"{SCENARIO.title}, {SCENARIO.walkers} walkers a map")
@pytest.mark.parametrize("contestant", SCENARIO.contestants, ids=str)
def bench_each(contestant: Contestant, tabulate: Callable[[Contestant], None]) -> None:
    tabulate(contestant)


def bench_side_by_side(side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(SCENARIO)
