"""What does recording cost? The no-op of bench_noop, with all that is only there for timelines
taken out, and with a timeline asked for after every map.

The two clock readings a task are in all three: deadlines and ``worker_segment_times`` need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.bench_noop import WALKERS, check_rows, rows_of_a_block
from benchmarks.contest import Contestant, Scenario, Times
from benchmarks.rivals.unrecorded import unrecorded
from ringwalk import Mapper, WalkerBlock

Outcome = tuple[Mapper, WalkerBlock, list[Any]]


@contextmanager
def not_recorded() -> Iterator[Callable[[], Outcome]]:
    with unrecorded(), rows_of_a_block() as run_map:
        yield run_map


@contextmanager
def asked_each_time() -> Iterator[Callable[[], Outcome]]:
    with rows_of_a_block() as run_map:

        def run() -> Outcome:
            outcome = run_map()
            assert len(outcome[0].timeline) == WALKERS
            return outcome

        yield run


def check_results(outcome: Outcome) -> None:
    _, _, results = outcome
    assert results == [None] * WALKERS


SCENARIO = Scenario(
    "no-op, rows of a block, recorded",
    WALKERS,
    ours=(Contestant("WorkerMapper", rows_of_a_block, check_rows),),
    rivals=(
        Contestant("not recorded", not_recorded, check_results),
        Contestant("timeline asked each map", asked_each_time, check_rows),
    ),
    targets=(Times("not recorded", 1 / 1.02),),
    rounds=31,  # 2 % is less than the machine wavers by from turn to turn
)


def bench_side_by_side(side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(SCENARIO)
