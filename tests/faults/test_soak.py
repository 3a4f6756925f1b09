"""Long runs in which one segment in a hundred kills its process: nothing may grow.

Maps of rows and maps of objects take turns on one mapper. After each the parent's private memory
and descriptors, the template's memory and the pages of the arena itself (not the machine's shared
memory, which others use too) are read; the last third may not have more than the first.

How many results come to lie in which worker's heap is chance, so before the first reading each
worker is made to run a whole map of objects: no later one can ask for more.

A TaskMapper forks for every task, 2 ms or more, so it gets a fiftieth of the tasks.
"""

from __future__ import annotations

import gc
import os
import random
import signal
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields

import numpy as np
import psutil
import pytest

from ringwalk import Mapper, Row, TaskMapper, WalkerBlock, WorkerMapper

WALKERS = 200
CHANCE = 0.01
LARGE = 8192  # float64 values: 64 KiB
TOLERANCE = 1.01


@dataclass(frozen=True)
class Reading:
    """What a mapper uses between two maps.

    Attributes:
        parent_bytes: anonymous memory resident in the parent; the arena is counted apart.
        template_bytes: memory resident in the template; 0 where there is none.
        arena_bytes: pages of the pool's arena.
    """

    parent_bytes: int
    template_bytes: int
    arena_bytes: int
    descriptors: int


def read(mapper: Mapper) -> Reading:
    gc.collect()  # also frees what the interpreter keeps for later use
    this = psutil.Process()
    arena = mapper._pool.space.arena.fileno()  # type: ignore[attr-defined]
    return Reading(
        this.memory_info().rss - this.memory_info().shared,
        sum(child.memory_info().rss for child in this.children() if child.children()),
        os.fstat(arena).st_blocks * 512,
        this.num_fds(),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ci", "campaign"),
    [(WorkerMapper, 100_000, 10_000_000), (TaskMapper, 2_000, 200_000)],
    ids=["worker", "task"],
)
def test_nothing_grows(
    kind: type[Mapper], ci: int, campaign: int, rounds: Callable[[int, int], int]
) -> None:
    tasks = rounds(ci, campaign)
    deaths = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    last = os.eventfd(0, os.EFD_CLOEXEC)
    doors = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(2)]

    def maybe_die() -> None:
        if random.random() < CHANCE:
            os.eventfd_write(deaths, 1)
            os.kill(os.getpid(), signal.SIGKILL)

    def advance(item: Row | tuple[int, np.ndarray] | int, alone: bool) -> object:
        if isinstance(item, int):
            os.eventfd_write(doors[1 - item], 1)
            os.eventfd_read(doors[item])
            return None
        if isinstance(item, Row):
            item.x[:11] += 1
            maybe_die()
            item.x[11:] += 1
            return None
        number, array = item
        if alone:
            if number == 0:  # this worker is held up while the other runs all the rest
                os.eventfd_read(last)
            elif number == WALKERS - 1:
                os.eventfd_write(last, 1)
            return np.full(LARGE if number % 10 == 1 else 100, 0.0)
        result = np.full(LARGE if number % 10 == 1 else 100, array[0] + 1)
        maybe_die()
        return result

    cycles = tasks // WALKERS // 2
    # Written to at once: a list, or fresh pages, would grow.
    readings = np.full(cycles, 0, [(field.name, "i8") for field in fields(Reading)])
    objects = [(k, np.full(125, float(k))) for k in range(WALKERS)]
    with (
        WalkerBlock(WALKERS, x=((22, 3), "f8")) as block,
        kind(advance, num_workers=2, max_retries=255) as mapper,
    ):
        waiting = {0, 1}
        while waiting:
            results = mapper.map(objects, [True] * WALKERS)
            times = mapper.worker_segment_times
            waiting -= {worker for worker in times if len(times[worker]) == WALKERS - 1}
            del results
        for cycle in range(1, cycles + 1):
            mapper.map(block, [False] * WALKERS)
            assert (block["x"] == cycle).all()
            results = mapper.map(objects, [False] * WALKERS)
            assert [result[-1] for result in results] == [k + 1 for k in range(WALKERS)]
            del results
            mapper.map([0, 1], [False, False])
            readings[cycle - 1] = astuple(read(mapper))
    killed = os.eventfd_read(deaths)
    for descriptor in (deaths, last, *doors):
        os.close(descriptor)
    print(f"{tasks} tasks, {killed} processes killed")
    assert killed > tasks * CHANCE / 5
    third = len(readings) // 3
    early, late = readings[:third], readings[-third:]
    for name in readings.dtype.names:
        was, became = (float(np.median(part[name])) for part in (early, late))
        print(f"{name}: {was:,.0f} -> {became:,.0f}")
        assert became <= was * TOLERANCE, name
