"""How does the cost of a no-op walker depend on how many are mapped at once? 1 to 100,000.

Walkers are rows of a block for ringwalk and bare integers for the rivals, which is less than the
same work: one rival sends the state of such rows there and back, too. Pools that send chunks get as
many chunks as workers, which for no-ops is the fewest messages that keep all workers busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.bench_noop import check_none, echo, no_op
from benchmarks.contest import WORKERS, AtMost, Contestant, Scenario, Times, mapping
from benchmarks.limits.in_process import empty_calls
from benchmarks.rivals.faster_fifo_pool import FasterFifoPool
from benchmarks.rivals.joblib_parallel import Joblib
from benchmarks.rivals.loky_executor import LokyExecutor
from benchmarks.rivals.mpire_pool import MpirePool
from benchmarks.rivals.multiprocessing_pool import MultiprocessingPool
from benchmarks.rivals.pebble_pool import PebblePool
from benchmarks.rivals.process_pool_executor import ProcessPoolExecutor
from benchmarks.rivals.thread_pool_executor import ThreadPoolExecutor
from benchmarks.rivals.westpa_managers import WestpaProcesses, WestpaSerial, WestpaThreads
from ringwalk import WalkerBlock, WorkerMapper

SIZES = (1, 2, 64, 1000, 100_000)
# At the other sizes the slower rivals would only cost time.
ALL_RIVALS_AT = 1000
ROUNDS = 3
POSITIONS = (22, 3)
SAME_WORK = "multiprocessing.Pool, tuned, with state"

State = tuple[float, npt.NDArray[np.float64]]
"""A row's weight and positions, as a rival without blocks carries them."""


def rows_of_a_block(count: int) -> Contestant:
    @contextmanager
    def opened() -> Iterator[Callable[[], tuple[WalkerBlock, list[Any]]]]:
        block = WalkerBlock(count, positions=(POSITIONS, "f8"), weight="f8")
        block["weight"] = np.arange(count)
        with block, WorkerMapper(no_op, WORKERS) as mapper:
            yield lambda: (block, mapper.map(block))

    def check(outcome: tuple[WalkerBlock, list[Any]]) -> None:
        block, results = outcome
        assert results == [None] * count
        assert (block["weight"] == np.arange(count)).all()

    return Contestant("WorkerMapper, rows of a block", opened, check)


def states(count: int) -> list[State]:
    return [(float(k), np.zeros(POSITIONS)) for k in range(count)]


def check_states(sent: Sequence[State], results: list[State]) -> None:
    assert [weight for weight, _ in results] == [weight for weight, _ in sent]
    assert {positions.shape for _, positions in results} == {POSITIONS}


def batch(count: int) -> Scenario:
    chunk = -(-count // WORKERS)

    def mapped(name: str, pool: Callable[..., Any], **options: Any) -> Contestant:
        opened = partial(pool, no_op, WORKERS, **options)
        return mapping(name, opened, lambda: range(count), check_none)

    rivals = [
        mapped("ProcessPoolExecutor, tuned", ProcessPoolExecutor, chunksize=chunk),
        mapped("multiprocessing.Pool, tuned", MultiprocessingPool, chunksize=chunk),
        mapping(
            SAME_WORK,
            partial(MultiprocessingPool, echo, WORKERS, chunksize=chunk),
            partial(states, count),
            check_states,
        ),
    ]
    if count <= ALL_RIVALS_AT:
        rivals += [
            mapped("ProcessPoolExecutor", ProcessPoolExecutor),
            mapped("faster-fifo", FasterFifoPool),
        ]
    if count == ALL_RIVALS_AT:
        rivals += [
            mapped("loky, tuned", LokyExecutor, chunksize=chunk),
            mapped("joblib, tuned", Joblib, batch_size=chunk),
            mapped("pebble, tuned", PebblePool, chunksize=chunk),
            mapped("mpire, tuned", MpirePool, chunksize=chunk),
            mapped("WESTPA processes", WestpaProcesses),
        ]
    floors = [mapped("ThreadPoolExecutor", ThreadPoolExecutor)] if count <= ALL_RIVALS_AT else []
    if count == ALL_RIVALS_AT:
        floors += [
            mapped("WESTPA serial", WestpaSerial),
            mapped("WESTPA threads", WestpaThreads),
        ]
    limit = (AtMost(0.5e-6),) if count >= ALL_RIVALS_AT else ()
    return Scenario(
        f"no-op, {count:,} at once",
        count,
        ours=(rows_of_a_block(count),),
        rivals=tuple(rivals),
        targets=(*limit, Times(None, 1), Times(SAME_WORK, 1)),
        floors=tuple(floors),
        limits=(empty_calls(count),),
        rounds=ROUNDS,
    )


SCENARIOS = tuple(map(batch, SIZES))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.title)
def bench_side_by_side(scenario: Scenario, side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(scenario)
