"""How near does a map come to the best possible order, when segments take different times?

Segments sleep for most of their time and spin for the rest, until the clock says so: they end at
their time unless neighbours hold all cores just then. Spread: none, 50% (uniform) and heavy-tailed
(Pareto).

The best possible order is measured, too: "shared out before" are two bare processes that know
their segments beforehand. Longest first is held against it. The ideal makespan is what it takes if
waking, sleeping and handing out cost nothing: computed, a limit for anybody.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.contest import WORKERS, Contestant, Scenario, Times, mapping, named
from benchmarks.interleave import Timing, interleave
from benchmarks.limits.shared_out import SHARED_OUT, shared_out
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.scoreboard import Scoreboard
from ringwalk import WorkerMapper

Array = npt.NDArray[np.float64]

SPREADS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "0%": lambda chance, n: np.ones(n),
    "50%": lambda chance, n: chance.uniform(0.5, 1.5, n),
    # Truncated, so that no single walker is longer than a worker's share.
    "heavy-tailed": lambda chance, n: np.minimum(1 + chance.pareto(1.5, n), n / 8),
}
LENGTHS = {"10 us": (10e-6, 2000), "1 ms": (1e-3, 100), "100 ms": (0.1, 24)}
# What a sleep may overrun; the rest of a segment spins.
OVERRUN_S = 0.3e-3
LONGEST = "WorkerMapper, longest first"
IDEAL = "ideal makespan"


def segment(seconds: float) -> float:
    """Take that long."""
    until = time.perf_counter() + seconds
    if seconds > OVERRUN_S:
        time.sleep(seconds - OVERRUN_S)
    while time.perf_counter() < until:
        pass
    return seconds


def check_echo(durations: Sequence[float], results: list[float]) -> None:
    assert results == list(durations)


def longest_first(durations: Sequence[float]) -> list[list[float]]:
    """Each worker's segments if it takes the longest that is left, at no cost."""
    shares: list[list[float]] = [[] for _ in range(WORKERS)]
    busy = [(0.0, k) for k in range(WORKERS)]
    for seconds in sorted(durations, reverse=True):
        until, k = busy[0]
        shares[k].append(seconds)
        heapq.heapreplace(busy, (until + seconds, k))
    return shares


def ideal_makespan(durations: Sequence[float]) -> float:
    return max(map(sum, longest_first(durations)))


def durations(length: str, spread: str) -> list[float]:
    mean, count = LENGTHS[length]
    drawn = SPREADS[spread](np.random.default_rng(1), count)
    scaled: list[float] = (drawn * (mean / drawn.mean())).tolist()
    return scaled


def scenario(length: str, spread: str) -> Scenario:
    walkers = durations(length, spread)

    def mapped(name: str, pool: Callable[..., Any], **options: Any) -> Contestant:
        opened = partial(pool, segment, WORKERS, **options)
        return mapping(name, opened, lambda: walkers, check_echo)

    even = -(-len(walkers) // WORKERS)
    return Scenario(
        f"segments of {length}, spread {spread}",
        len(walkers),
        ours=(
            mapped("WorkerMapper", WorkerMapper),
            mapped(LONGEST, WorkerMapper, schedule="longest"),
        ),
        rivals=(
            mapped("ProcessPoolExecutor", ProcessPoolExecutor),
            mapped("multiprocessing.Pool, a share each", MultiprocessingPool, chunksize=even),
        ),
        targets=(Times(SHARED_OUT, 1 / 1.03, of=LONGEST),),
        limits=(named(IDEAL), shared_out(segment, longest_first(walkers))),
        rounds=3,
    )


@pytest.mark.parametrize(
    ("length", "spread"),
    [
        pytest.param(
            length, spread, id=f"{length}-{spread}", marks=[pytest.mark.long] * (length == "100 ms")
        )
        for length in LENGTHS
        for spread in SPREADS
    ],
)
def bench_side_by_side(scoreboard: Scoreboard, length: str, spread: str) -> None:
    raced = scenario(length, spread)
    run = [contestant for contestant in raced.contestants if contestant.name != IDEAL]
    timings = interleave(run, raced.rounds)
    ideal = np.full(raced.rounds, ideal_makespan(durations(length, spread)))
    scoreboard.judge(raced, {**timings, IDEAL: Timing(ideal, ideal)})
