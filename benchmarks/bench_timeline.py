"""What does recording cost? The no-op of bench_noop, with all that is only there for timelines
taken out, and with a timeline asked for after every map.

Two percent is less than one mapper differs from the next by, and less than a shared machine wavers
by from one tenth of a second to the next. So all three run on one mapper, map by map, in an order
that chance decides; a round gives the median of each, and begins with a new mapper. The two clock
readings a task are in all three: deadlines and ``worker_segment_times`` need them.
"""

from __future__ import annotations

import random
from time import perf_counter

import numpy as np

from benchmarks.bench_noop import WALKERS, rows_of_a_block
from benchmarks.contest import Scenario, Times, named
from benchmarks.interleave import Timing
from benchmarks.rivals.unrecorded import record
from benchmarks.scoreboard import Scoreboard

RECORDED, NOT_RECORDED, ASKED = "WorkerMapper", "not recorded", "timeline asked each map"
WARM_UPS = 10
MAPS = 60  # of each, a round

SCENARIO = Scenario(
    "no-op, rows of a block, recorded",
    WALKERS,
    ours=(named(RECORDED),),
    rivals=(named(NOT_RECORDED), named(ASKED)),
    targets=(Times(NOT_RECORDED, 1 / 1.02),),
    rounds=31,
)


def one_round(chance: random.Random) -> dict[str, list[float]]:
    """Seconds of each map, by what was recorded of it."""
    ways = [RECORDED, NOT_RECORDED, ASKED]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with rows_of_a_block() as run_map:
        for turn in range(-WARM_UPS, MAPS):
            for way in chance.sample(ways, len(ways)):
                record(way != NOT_RECORDED)
                try:
                    began = perf_counter()
                    mapper, _, results = run_map()
                    records = len(mapper.timeline) if way == ASKED else WALKERS
                    ended = perf_counter()
                finally:
                    record(True)
                assert records == WALKERS
                assert results == [None] * WALKERS
                if turn >= 0:
                    seconds[way].append(ended - began)
    return seconds


def bench_recording(scoreboard: Scoreboard) -> None:
    chance = random.Random(1)
    rounds = [one_round(chance) for _ in range(SCENARIO.rounds)]
    timings = {
        way: Timing(
            np.array([np.median(each[way]) for each in rounds]),
            np.concatenate([each[way] for each in rounds]),
        )
        for way in rounds[0]
    }
    scoreboard.judge(SCENARIO, timings)
