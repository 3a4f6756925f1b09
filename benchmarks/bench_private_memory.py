"""What does the parent's private memory cost a process a walker? 0, 1 and 4 GB of touched pages.

A fork copies the page tables of private memory, not those of shared memory. TaskMapper forks its
children from lanes, which a map forks first from the parent.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest

from benchmarks.bench_fork import check_loops, check_none, check_one, no_op
from benchmarks.contest import WORKERS, Contestant, Pool, Scenario, Times, mapping
from benchmarks.rivals.fork_loop import ForkLoop, ForkLoops
from ringwalk import TaskMapper

WALKERS = 16
ALLOWANCE = 1.3
GIGABYTE = 1 << 30


@contextmanager
def beside(gigabytes: int, pool: Callable[[], AbstractContextManager[Pool]]) -> Iterator[Pool]:
    """The pool in a process that holds so much private memory."""
    if not gigabytes:
        with pool() as running:
            yield running
        return
    with mmap.mmap(-1, gigabytes * GIGABYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held[:: mmap.PAGESIZE] = bytes(len(held) // mmap.PAGESIZE)
        with pool() as running:
            yield running


def scenario(gigabytes: int, rounds: int) -> Scenario:
    def mapped(
        name: str, pool: Callable[..., Any], check: Callable[[Sequence[int], list[Any]], None]
    ) -> Contestant:
        opened = partial(beside, gigabytes, partial(pool, no_op, WORKERS))
        return mapping(name, opened, lambda: range(WALKERS), check)

    return Scenario(
        f"a process a walker, {gigabytes} GB private memory in the parent",
        WALKERS,
        ours=(mapped("TaskMapper", TaskMapper, check_none),),
        rivals=(
            mapped("fork loop", ForkLoop, check_one),
            mapped("fork loops", ForkLoops, check_loops),
        ),
        targets=(Times("fork loop", 1 / ALLOWANCE), Times("fork loops", 1 / ALLOWANCE)),
        rounds=rounds,
    )


@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(scenario(0, 5), id="0 GB"),
        pytest.param(scenario(1, 3), id="1 GB"),
        pytest.param(scenario(4, 3), id="4 GB", marks=pytest.mark.long),
    ],
)
def bench_side_by_side(scenario: Scenario, side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(scenario)
