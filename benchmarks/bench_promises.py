"""What the promises of the failure model cost when nothing fails: no-op maps with and without.

Counted is processor time, of the parent and all its workers, because a few percent drown in what
neighbours on a shared machine do to the clock. Each contestant lives in a forked process of its
own, as ``harden`` changes its process for good. All of them live at once, because idle ones burn
nothing (``bench_idle``), and take turns of a few maps, so that a turn's neighbours are milliseconds
away, in an order that chance decides: who comes next to himself finds his caches warm. Now and then
all are made anew, for where a process's memory happens to lie is worth some percent, too.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.bench_idle import below, used_ns
from benchmarks.bench_noop import WALKERS, no_op
from benchmarks.contest import WORKERS, Contestant, Scenario, Times
from benchmarks.interleave import Timing
from benchmarks.scoreboard import Scoreboard
from ringwalk import WalkerBlock, WorkerMapper

MAPS = 10
WARM_UPS = 3
TURNS = 20  # then all are made anew
MOST = 1.05  # times as much as without


def _serve(options: dict[str, Any], requests: Connection) -> None:
    """Answer each request with the processor seconds that so many maps took."""
    with (
        WalkerBlock(WALKERS, positions=((22, 3), "f8"), weight="f8") as block,
        WorkerMapper(no_op, WORKERS, **options) as mapper,
    ):
        workers = below(os.getpid())
        while requests.recv():
            before = sum(map(used_ns, workers))
            own = time.process_time_ns()
            for _ in range(MAPS):
                results = mapper.map(block)
                assert results == [None] * WALKERS
            own = time.process_time_ns() - own
            requests.send((own + sum(map(used_ns, workers)) - before) * 1e-9)


def contestant(name: str, **options: Any) -> Contestant:
    @contextmanager
    def opened() -> Iterator[Callable[[], float]]:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(options, theirs))
        process.start()
        theirs.close()

        def burn() -> float:
            ours.send(True)
            seconds: float = ours.recv()
            return seconds

        yield burn
        ours.send(False)
        process.join()
        ours.close()

    return Contestant(name, opened, _check)


def _check(seconds: float) -> None:
    assert seconds > 0


PROMISES = Scenario(
    "processor time, no-op, rows of a block",
    WALKERS * MAPS,
    ours=(
        contestant("timeout=60", timeout=60),
        contestant("max_retries=0", max_retries=0),
        contestant("max_retries=255", max_retries=255),
        contestant('on_error="finish"', on_error="finish"),
        contestant("harden=True", harden=True),
        contestant("all of them", timeout=60, max_retries=255, on_error="finish", harden=True),
    ),
    rivals=(contestant("none of them"),),
    targets=(Times("none of them", 1 / MOST),),
    rounds=20,
)


def bench_promises(scoreboard: Scoreboard) -> None:
    burnt: dict[str, list[float]] = {c.name: [] for c in PROMISES.contestants}
    chance = random.Random(1)
    for _ in range(PROMISES.rounds):
        with ExitStack() as stack:
            order = chance.sample(PROMISES.contestants, len(PROMISES.contestants))
            burners = {c.name: stack.enter_context(c.open()) for c in order}
            turns: dict[str, list[float]] = {name: [] for name in burners}
            for _ in range(WARM_UPS + TURNS):
                for name in chance.sample(list(burners), len(burners)):
                    turns[name].append(burners[name]())
        for name, seconds in turns.items():
            burnt[name].append(float(np.median(seconds[WARM_UPS:])))
    timings = {name: Timing(np.array(each), np.array(each)) for name, each in burnt.items()}
    scoreboard.judge(PROMISES, timings)
