"""What does a pool burn while nobody maps? Processor time of the process tree in an idle second.

Counted by the scheduler in nanoseconds, over all threads of this process and of all below it, once
a map has warmed the pool up. On a node whose cores run simulations beside the manager, all
of it is taken from them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import WORKERS
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.rivals.wepy_mappers import WepyWorkerMapper
from benchmarks.scoreboard import Scoreboard, Verdict, duration
from ringwalk import TaskMapper, WorkerMapper

IDLE_S = 1.0
REPEATS = 3
# Less than a tenth of a tick (10 ms), the smallest time that the kernel bills. Not 0: falling
# asleep and waking up to look at the clock is work of this process.
LIMIT_S = 1e-3


def no_op(walker: int) -> None:
    """The segment."""


OURS: dict[str, Callable[[], Any]] = {
    "WorkerMapper": partial(WorkerMapper, no_op, WORKERS),
    "TaskMapper": partial(TaskMapper, no_op, WORKERS),
}
RIVALS: dict[str, Callable[[], Any]] = {
    "ProcessPoolExecutor": partial(ProcessPoolExecutor, no_op, WORKERS),
    "multiprocessing.Pool": partial(MultiprocessingPool, no_op, WORKERS, chunksize=1),
    "wepy WorkerMapper": partial(WepyWorkerMapper, no_op, WORKERS),
}


def below(pid: int) -> list[int]:
    """All processes below a process."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *below(child)]
    return found


def used_ns(pid: int) -> int:
    """Processor time of another process's threads, as of when each of them last slept."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads)


def idle_seconds(pool: Callable[[], Any]) -> float:
    """Processor seconds burnt in an idle second: the median of a few."""
    with pool() as running:
        assert len(running.map(range(10))) == 10
        workers = below(os.getpid())
        burnt = []
        for _ in range(REPEATS):
            others = sum(map(used_ns, workers))
            # Innermost, because looking at the others is work of this process.
            own = time.process_time_ns()
            time.sleep(IDLE_S)
            own = time.process_time_ns() - own
            burnt.append((own + sum(map(used_ns, workers)) - others) * 1e-9)
    return sorted(burnt)[REPEATS // 2]


def bench_idle(scoreboard: Scoreboard) -> None:
    theirs = {name: idle_seconds(pool) for name, pool in RIVALS.items()}
    for name, pool in OURS.items():
        ours = idle_seconds(pool)
        for rival, burnt in theirs.items():
            scoreboard.verdicts.append(
                Verdict(
                    scenario=f"processor time in {IDLE_S:g} s idle",
                    contestant=name,
                    ours=duration(ours),
                    rival=rival,
                    theirs=duration(burnt),
                    ratio=None,
                    ratio_quartiles=None,
                    target=f"<= {duration(LIMIT_S)}",
                    met=ours <= LIMIT_S,
                )
            )
