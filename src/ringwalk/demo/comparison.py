"""The same segments through several ways of running them, timed side by side.

Every way starts from the same walkers and gives walker i the stream of (seed, i), so all must
end at the same positions to the last bit; a way that does not is an error, not a row.

A segment times itself. The overhead of a way is what its workers' time went into otherwise,

    (wall time x workers - time inside segments) / walkers,

so it holds transport, scheduling, forking and idling alike. Starting a pool is not timed: every
turn of a way runs the map once before the clock starts. ``TaskMapper`` has no pool and forks a
process for each walker; that is its price and is timed. The ways take turns, and the table shows
the median over all maps of all turns.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from rich.table import Table

from ringwalk import Row, TaskMapper, WalkerBlock, WorkerMapper
from ringwalk.demo.ensemble import STEPS, Array, advance
from ringwalk.demo.potential import WELL
from ringwalk.observe.progress import Progress

WALKERS = 256
TURNS = 3

#: Timed maps a turn. One map of a fast way takes milliseconds and is easily disturbed; one of
#: ``TaskMapper`` takes half a second.
MAPS = 5
TASK_MAPS = 1

Outcome = tuple[tuple[float, float], float]


class ComparisonError(Exception):
    """Two ways of running the same segments ended at different positions."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One map: its workers, its wall time and the time inside its segments, in seconds."""

    workers: int
    wall: float
    inside: float

    @property
    def walkers_per_second(self) -> float:
        return WALKERS / self.wall

    @property
    def overhead(self) -> float:
        """Seconds a walker that a worker did not spend in the segment."""
        return (self.wall * self.workers - self.inside) / WALKERS


@dataclass(frozen=True, slots=True)
class Turn:
    """The maps of one turn, and where the walkers were after the last of them."""

    maps: list[Timing]
    positions: Array


Way = Callable[[int, int], Turn]


def timed_advance(positions: Array, seed: int, index: int) -> Outcome:
    """Run one segment of walker ``index`` on its own stream; return position and seconds."""
    begin = perf_counter()
    sequence = np.random.SeedSequence(seed, spawn_key=(index,))
    end = advance(positions, STEPS, np.random.Generator(np.random.PCG64(sequence)))
    return end, perf_counter() - begin


def timed_segment(row: Row, seed: int) -> None:
    """Do the same in place, on a row of a block."""
    row.positions, row.seconds = timed_advance(row.positions, seed, row.index)


def in_a_loop(workers: int, seed: int) -> Turn:
    """One process, no mapper: what the others are held against."""
    return _time_results(map, 1, seed)


def in_an_executor(workers: int, seed: int, chunksize: int = 1) -> Turn:
    """``concurrent.futures``: positions are pickled there and back."""
    with ProcessPoolExecutor(workers) as executor:
        return _time_results(partial(executor.map, chunksize=chunksize), workers, seed)


def in_a_mapper(
    mapper_type: type[WorkerMapper | TaskMapper], maps: int, workers: int, seed: int
) -> Turn:
    """One of our mappers, on the rows of a block."""
    timings = []
    with (
        WalkerBlock(WALKERS, positions=((2,), "f8"), seconds="f8") as block,
        mapper_type(timed_segment, workers) as mapper,
    ):
        for _ in range(maps + 1):
            block["positions"] = WELL
            begin = perf_counter()
            mapper.map(block, itertools.repeat(seed))
            wall = perf_counter() - begin
            timings.append(Timing(workers, wall, float(block["seconds"].sum())))
        return Turn(timings[1:], block["positions"])


def ways(workers: int) -> dict[str, Way]:
    """The rows of the table, by name."""
    chunk = max(1, WALKERS // (4 * workers))
    return {
        "serial loop": in_a_loop,
        "ProcessPoolExecutor": in_an_executor,
        f"ProcessPoolExecutor, chunksize={chunk}": partial(in_an_executor, chunksize=chunk),
        "ringwalk WorkerMapper": partial(in_a_mapper, WorkerMapper, MAPS),
        "ringwalk TaskMapper": partial(in_a_mapper, TaskMapper, TASK_MAPS),
    }


def compare(
    workers: int, seed: int, progress: Progress = lambda finished, all_: None
) -> dict[str, list[Timing]]:
    """Time every way, in turns; tell of each.

    Raises:
        ComparisonError: a way ended at other positions than the serial loop.
    """
    contenders = ways(workers)
    expected = in_a_loop(workers, seed).positions
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    for number in range(TURNS):
        for place, (name, way) in enumerate(contenders.items(), 1):
            turn = way(workers, seed)
            if not np.array_equal(turn.positions, expected):
                wrong = int(np.flatnonzero((turn.positions != expected).any(axis=1))[0])
                raise ComparisonError(
                    f"{name} put walker {wrong} at {turn.positions[wrong]}, the serial loop at "
                    f"{expected[wrong]}, from the same start and stream: please report this"
                )
            timings[name] += turn.maps
            progress(number * len(contenders) + place, TURNS * len(contenders))
    return timings


def table_of(timings: dict[str, list[Timing]]) -> Table:
    """Set out the medians, one row a way."""
    table = Table(title=f"The same {WALKERS} segments of {STEPS} steps by each way, medians")
    table.add_column("run by")
    for heading in ("workers", "walkers/s", "overhead a walker"):
        table.add_column(heading, justify="right")
    for name, maps in timings.items():
        speed = statistics.median(timing.walkers_per_second for timing in maps)
        overhead = statistics.median(timing.overhead for timing in maps)
        table.add_row(name, str(maps[0].workers), f"{speed:,.0f}", f"{overhead * 1e6:,.1f} us")
    return table


def _time_results(run: Callable[..., Iterable[Outcome]], workers: int, seed: int) -> Turn:
    start = np.tile(WELL, (WALKERS, 1))
    timings = []
    for _ in range(MAPS + 1):
        begin = perf_counter()
        outcomes = list(run(timed_advance, start, itertools.repeat(seed), range(WALKERS)))
        wall = perf_counter() - begin
        timings.append(Timing(workers, wall, sum(seconds for _, seconds in outcomes)))
    return Turn(timings[1:], np.array([position for position, _ in outcomes]))
