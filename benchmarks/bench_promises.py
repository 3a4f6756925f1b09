"""What the promises of the failure model cost when nothing fails: no-op maps with and without.

Each contestant lives in a forked process of its own, as ``harden`` changes its process for good,
and is asked for ten maps at a time, next to which the asking is nothing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

from benchmarks.bench_noop import WALKERS, no_op
from benchmarks.contest import WORKERS, Contestant, Scenario, Times
from ringwalk import WalkerBlock, WorkerMapper

MAPS = 10
MOST = 1.05  # times as long as without


def _serve(options: dict[str, Any], requests: Connection) -> None:
    with (
        WalkerBlock(WALKERS, positions=((22, 3), "f8"), weight="f8") as block,
        WorkerMapper(no_op, WORKERS, **options) as mapper,
    ):
        while requests.recv():
            results = [mapper.map(block) for _ in range(MAPS)]
            requests.send(results == [[None] * WALKERS] * MAPS)


def contestant(name: str, **options: Any) -> Contestant:
    @contextmanager
    def opened() -> Iterator[Callable[[], bool]]:
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(options, theirs))
        process.start()
        theirs.close()

        def run_maps() -> bool:
            ours.send(True)
            right: bool = ours.recv()
            return right

        yield run_maps
        ours.send(False)
        process.join()
        ours.close()
        assert process.exitcode == 0

    return Contestant(name, opened, _check)


def _check(right: bool) -> None:
    assert right


PROMISES = Scenario(
    "promises, no-op, rows of a block",
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
    rounds=21,
)


@pytest.mark.parametrize("scenario", [PROMISES], ids=lambda scenario: scenario.title)
def bench_side_by_side(scenario: Scenario, side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(scenario)
