"""What do the drop-in mappers save a wepy user? wepy's mappers, called as its manager calls them.

* No-op segments over wepy walkers whose state is one float64 array, there and back.
* Processor time outside MD, in whole cycles of a box of water with short segments.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest
from wepy.walker import Walker, WalkerState
from wepy.work_mapper.mapper import Worker
from wepy.work_mapper.task_mapper import WalkerTaskProcess

from benchmarks.contest import WORKERS, Contestant, Scenario, Times, mapping
from benchmarks.rivals.wepy_mappers import WepyTaskMapper, WepyWorkerMapper
from benchmarks.scoreboard import Scoreboard, Verdict, duration
from ringwalk.adapters import wepy as adapter

SIZES = {"1 KB": (128, 256), "1 MB": (131_072, 32), "10 MB": (1_310_720, 8)}


def no_op(walker: Walker, *args: Any, **kwargs: Any) -> Walker:
    """The segment: as wepy's NoRunner, it returns the walker."""
    return walker


class _Ours:
    """One of our drop-ins for the time of a context."""

    def __init__(self, mapper: Any) -> None:
        self._mapper = mapper

    def __enter__(self) -> Self:
        self._mapper.init(segment_func=no_op)
        return self

    def map(self, walkers: Sequence[Walker]) -> list[Walker]:
        return as_the_manager_does(self._mapper, walkers)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._mapper.cleanup()


def our_worker_mapper() -> _Ours:
    return _Ours(adapter.WorkerMapper(WORKERS, Worker))


def our_read_only_worker_mapper() -> _Ours:
    return _Ours(adapter.WorkerMapper(WORKERS, Worker, inputs="readonly"))


def our_task_mapper() -> _Ours:
    return _Ours(adapter.TaskMapper(WalkerTaskProcess, WORKERS))


class _Theirs:
    """wepy's mapper, called with the manager's arguments."""

    def map(self, walkers: Sequence[Walker]) -> list[Walker]:
        return as_the_manager_does(self._mapper, walkers)  # type: ignore[attr-defined]


class TheirWorkerMapper(_Theirs, WepyWorkerMapper):
    def __init__(self) -> None:
        super().__init__(no_op, WORKERS)


class TheirTaskMapper(_Theirs, WepyTaskMapper):
    def __init__(self) -> None:
        super().__init__(no_op, WORKERS)


def as_the_manager_does(mapper: Any, walkers: Sequence[Walker]) -> list[Walker]:
    count = len(walkers)
    return list(
        mapper.map(
            walkers,
            (1000 for _ in range(count)),
            cycle_idx=(0 for _ in range(count)),
            walker_idx=(index for index in range(count)),
        )
    )


def make_walkers(numbers: int, count: int) -> list[Walker]:
    return [
        Walker(WalkerState(positions=np.full(numbers, float(k))), 1 / count) for k in range(count)
    ]


def check(walkers: Sequence[Walker], results: list[Walker]) -> None:
    assert len(results) == len(walkers)
    for sent, returned in zip(walkers, results, strict=True):
        assert returned.weight == sent.weight
        assert (returned.state["positions"] == sent.state["positions"]).all()


def scenario(
    title: str,
    size: str,
    ours: dict[str, Callable[[], Any]],
    rivals: dict[str, Callable[[], Any]],
    targets: tuple[Times, ...],
) -> Scenario:
    numbers, count = SIZES[size]

    def contestants(pools: dict[str, Callable[[], Any]]) -> tuple[Contestant, ...]:
        return tuple(
            mapping(name, pool, lambda: make_walkers(numbers, count), check)
            for name, pool in pools.items()
        )

    return Scenario(title, count, contestants(ours), contestants(rivals), targets, rounds=5)


SCENARIOS = (
    *(
        scenario(
            f"wepy walkers of {size}, no-op",
            size,
            {
                "WorkerMapper drop-in": our_worker_mapper,
                "WorkerMapper drop-in, read-only": our_read_only_worker_mapper,
            },
            {"wepy WorkerMapper": TheirWorkerMapper},
            (Times("wepy WorkerMapper", factor),),
        )
        for size, factor in (("1 KB", 40), ("1 MB", 10), ("10 MB", 10))
    ),
    scenario(
        "wepy walkers of 1 KB, no-op, a process a walker",
        "1 KB",
        {"TaskMapper drop-in": our_task_mapper},
        {"wepy TaskMapper": TheirTaskMapper},
        (Times("wepy TaskMapper", 8),),
    ),
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def bench_side_by_side(scenario: Scenario, side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(scenario)


def outside_md(package: str) -> dict[str, float]:
    """A simulation of its own process; processor seconds outside MD, a walker and cycle."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.rivals.wepy_simulation", package, "WorkerMapper"],
        check=True,
        capture_output=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    assert figures["atoms"] == 23_568
    return figures


def bench_water(scoreboard: Scoreboard) -> None:
    figures = {package: outside_md(package) for package in ("wepy", "ringwalk")}
    beside = {name: told["cpu_s"] - told["md_s"] for name, told in figures.items()}
    ratio = beside["wepy"] / beside["ringwalk"]
    scoreboard.verdicts.append(
        Verdict(
            "23,568 atoms, 20 steps, 4 walkers, 2 cycles: processor time outside MD",
            "WorkerMapper drop-in",
            duration(beside["ringwalk"]),
            "wepy WorkerMapper",
            duration(beside["wepy"]),
            ratio,
            None,
            ">= 10",
            ratio >= 10,
        )
    )
