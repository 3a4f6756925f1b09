"""What does binding workers to cores, or to NUMA nodes, do? No-ops, and rows of 1 MB."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.bench_noop import check_none
from benchmarks.contest import WORKERS, Contestant, Scenario
from ringwalk import Row, WalkerBlock, WorkerMapper


def add_one(row: Row) -> None:
    row.state += 1.0


def contestant(name: str, walkers: int, values: int, **options: Any) -> Contestant:
    @contextmanager
    def opened() -> Iterator[Callable[[], list[Any]]]:
        with (
            WalkerBlock(walkers, state=((values,), "f8")) as block,
            WorkerMapper(add_one, WORKERS, **options) as mapper,
        ):
            yield lambda: mapper.map(block)

    def check(results: list[Any]) -> None:
        check_none(range(walkers), results)

    return Contestant(name, opened, check)


def scenario(what: str, walkers: int, values: int) -> Scenario:
    return Scenario(
        f"add one to rows of {what}, workers bound",
        walkers,
        ours=(
            contestant('bind="cores"', walkers, values, bind="cores"),
            contestant('bind="nodes"', walkers, values, bind="nodes"),
        ),
        rivals=(contestant("bind=None", walkers, values),),
        targets=(),
    )


@pytest.mark.parametrize(
    "raced",
    [scenario("8 bytes", 1000, 1), scenario("1 MB", 16, 131_072)],
    ids=["8 bytes", "1 MB"],
)
def bench_side_by_side(raced: Scenario, side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(raced)
