"""How much memory does a worker hold, and does what results held come back?

* memory per worker: unique set size (pages that no other process shares) after a map.
* 10,000 cycles: arrays of ever other sizes there and back, results dropped each time. Noted are the
  bytes in use while results live and after they died, and the memory that the mapper keeps for
  reuse: as long as it lives it gives none back, so it must stay near the most that was asked of it
  at once, which grows as well: the largest of 10,000 sums of random sizes is larger than of 1,000.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import psutil
import pytest

from benchmarks.bench_idle import below
from benchmarks.bench_noop import no_op
from benchmarks.contest import WORKERS
from benchmarks.rivals.loky_executor import LokyExecutor
from benchmarks.rivals.mpire_pool import MpirePool
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.pebble_pool import PebblePool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.scoreboard import Scoreboard, Verdict
from benchmarks.segments import Array, add_one
from ringwalk import WorkerMapper

CYCLES = 10_000
WALKERS = 8
SMALLEST, LARGEST = 1 << 7, 1 << 15  # float64 numbers: 1 KB to 256 KB
NOTED_EVERY = 20
ALIVE, DEAD, KEPT = "in use, results alive", "in use, results dead", "kept for reuse"
# What is kept, over the most that arguments and each worker's results ever took at once: blocks are
# up to twice the size of what they hold, and a heap grows by 256 KiB.
MOST_KEPT = 2.5

POOLS: dict[str, Callable[[], Any]] = {
    "WorkerMapper": partial(WorkerMapper, no_op, WORKERS),
    "ProcessPoolExecutor": partial(ProcessPoolExecutor, no_op, WORKERS),
    "multiprocessing.Pool": partial(MultiprocessingPool, no_op, WORKERS, chunksize=1),
    "loky": partial(LokyExecutor, no_op, WORKERS),
    "pebble": partial(PebblePool, no_op, WORKERS),
    "mpire": partial(MpirePool, no_op, WORKERS),
}


def unique_bytes(pool: Callable[[], Any]) -> float:
    """Median over all processes below this one, helpers included."""
    before = set(below(os.getpid()))
    with pool() as running:
        assert running.map(range(100)) == [None] * 100
        workers = set(below(os.getpid())) - before
        sizes = [psutil.Process(pid).memory_full_info().uss for pid in workers]
    return float(np.median(sizes))


def bench_per_worker(scoreboard: Scoreboard) -> None:
    held = {name: unique_bytes(pool) for name, pool in POOLS.items()}
    ours = held.pop("WorkerMapper")
    for rival, theirs in held.items():
        scoreboard.verdicts.append(
            Verdict(
                "memory of a worker (USS)",
                "WorkerMapper",
                _megabytes(ours),
                rival,
                _megabytes(theirs),
                theirs / ours,
                None,
                "",
                None,
            )
        )


@pytest.mark.parametrize("inputs", ["copy", "readonly"])
def bench_cycles(scoreboard: Scoreboard, inputs: Any) -> None:
    chance = np.random.default_rng(1)
    noted: dict[str, list[float]] = {"cycle": [], ALIVE: [], DEAD: [], KEPT: []}
    with WorkerMapper(add_one, WORKERS, inputs=inputs) as mapper:
        heaps = mapper._pool.space.heaps  # type: ignore[union-attr]

        def each(what: Literal["held_bytes", "committed_bytes"]) -> list[int]:
            return [heap.usage()[what] for heap in heaps]

        most_sent, most_returned = 0, [0] * len(heaps)
        for cycle in range(CYCLES):
            lengths = np.exp(chance.uniform(np.log(SMALLEST), np.log(LARGEST), WALKERS))
            arrays: list[Array] = [np.full(int(length), float(cycle)) for length in lengths]
            results = mapper.map(arrays)
            for sent, returned in zip(arrays, results, strict=True):
                assert len(returned) == len(sent)
                assert returned[-1] == cycle + 1.0
            alive = each("held_bytes")
            most_sent = max(most_sent, sum(array.nbytes for array in arrays))
            most_returned = list(map(max, most_returned, alive))
            del results, returned
            if cycle % NOTED_EVERY == 0:
                noted["cycle"].append(cycle)
                noted[ALIVE].append(sum(alive))
                noted[DEAD].append(sum(each("held_bytes")))
                noted[KEPT].append(sum(each("committed_bytes")))
    scoreboard.series[inputs] = noted
    case = f"shared memory over {CYCLES:,} cycles of other sizes, {inputs}"
    dead, kept, most = max(noted[DEAD]), noted[KEPT][-1], most_sent + sum(most_returned)
    for what, found, rival, theirs, target, met in (
        (DEAD, dead, ALIVE, max(noted[ALIVE]), "none", dead == 0),
        (
            KEPT,
            kept,
            "most asked for at once",
            most,
            f"<= {MOST_KEPT:g} x that",
            kept <= MOST_KEPT * most,
        ),
    ):
        scoreboard.verdicts.append(
            Verdict(
                case, what, _megabytes(found), rival, _megabytes(theirs), None, None, target, met
            )
        )


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.3g} MB"
