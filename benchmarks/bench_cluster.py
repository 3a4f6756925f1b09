"""What do nodes add to the cost of a walker? No-ops over an engine, against the mapper beneath it.

The engine is the standard library's process pool with one process, which stands for a node.
Batches are cut at 256 walkers; no-ops are short, so several batches travel and run together. The
mapper of one machine runs as many walkers in maps of 256, and in one map, as its user would do.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.bench_noop import no_op
from benchmarks.contest import WORKERS, Contestant, Scenario, Times
from ringwalk import WorkerMapper
from ringwalk.cluster import ClusterMapper

BATCH = 256
WALKERS = 40 * BATCH
MOST = 1.3  # times as much as the mapper of one machine


def one_node() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("fork"))


@contextmanager
def over_an_engine() -> Iterator[Callable[[], list[Any]]]:
    options: dict[str, Any] = {"batch_size": BATCH, "start_method": "fork"}
    with ClusterMapper(one_node, no_op, WORKERS, **options) as mapper:
        yield lambda: mapper.map(range(WALKERS))


@contextmanager
def in_maps_of_a_batch() -> Iterator[Callable[[], list[Any]]]:
    batches = [range(first, first + BATCH) for first in range(0, WALKERS, BATCH)]
    with WorkerMapper(no_op, WORKERS) as mapper:
        yield lambda: [result for batch in batches for result in mapper.map(batch)]


@contextmanager
def in_one_map() -> Iterator[Callable[[], list[Any]]]:
    with WorkerMapper(no_op, WORKERS) as mapper:
        yield lambda: mapper.map(range(WALKERS))


def check(results: list[Any]) -> None:
    assert results == [None] * WALKERS


BY_BATCH = f"WorkerMapper, maps of {BATCH}"
CLUSTER = Scenario(
    f"no-op over an engine, batches of {BATCH}",
    WALKERS,
    ours=(Contestant("ClusterMapper", over_an_engine, check),),
    rivals=(
        Contestant(BY_BATCH, in_maps_of_a_batch, check),
        Contestant("WorkerMapper, one map", in_one_map, check),
    ),
    targets=(Times(BY_BATCH, 1 / MOST),),
)


@pytest.mark.parametrize("scenario", [CLUSTER], ids=lambda scenario: scenario.title)
def bench_side_by_side(scenario: Scenario, side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(scenario)
