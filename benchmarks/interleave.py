"""Times contestants in turns, so that a ratio compares moments that were equally noisy.

    round 1:  A B C      round 2:  C B A      round 3:  A B C ...

One contestant is alive at a time, because some of them keep cores busy while they wait. A turn is:
open, warm up, time maps one by one, check the last result, close. It counts as one sample, the
median of its maps; a round gives one ratio for each pair.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.contest import Contestant

# A turn costs the slowest contestants four maps. The others get as many as fit: a map of a
# millisecond has to meet the scheduler several times before its median means something.
WARM_UP_S = 0.03
LEAST_WARM_UPS = 2
TURN_S = 0.1
MOST_MAPS = 50


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a contestant's maps took, in seconds.

    Attributes:
        turns: one a round, the median of the turn's maps.
        maps: all maps of all turns.
    """

    turns: npt.NDArray[np.float64]
    maps: npt.NDArray[np.float64]

    @property
    def median(self) -> float:
        return float(np.median(self.turns))

    @property
    def quartiles(self) -> tuple[float, float]:
        return quartiles(self.turns)

    @property
    def p99(self) -> float:
        return float(np.percentile(self.maps, 99))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long a rival takes: median over the rounds, and quartiles."""

    median: float
    quartiles: tuple[float, float]

    @classmethod
    def of(cls, rival: Timing, ours: Timing) -> Ratio:
        ratios = rival.turns / ours.turns
        return cls(float(np.median(ratios)), quartiles(ratios))


def quartiles(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [25, 75])
    return float(low), float(high)


def interleave(contestants: Sequence[Contestant], rounds: int) -> dict[str, Timing]:
    """Give each contestant ``rounds`` turns; name -> timing."""
    maps: dict[str, list[list[float]]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants if number % 2 == 0 else reversed(contestants):
            maps[contestant.name].append(time_turn(contestant))
    return {
        name: Timing(np.array([np.median(turn) for turn in turns]), np.concatenate(turns))
        for name, turns in maps.items()
    }


def time_turn(contestant: Contestant) -> list[float]:
    """Seconds of each map of one turn."""
    clock = time.perf_counter
    with contestant.open() as run_map:
        warm, until = 0, clock() + WARM_UP_S
        while warm < LEAST_WARM_UPS or clock() < until:
            run_map()
            warm += 1
        seconds: list[float] = []
        until = clock() + TURN_S
        while not seconds or (clock() < until and len(seconds) < MOST_MAPS):
            start = clock()
            result = run_map()
            seconds.append(clock() - start)
        contestant.check(result)
    return seconds
