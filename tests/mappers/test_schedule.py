"""The order in which walkers are handed out, which no result depends on."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    ConfigError,
    Mapper,
    SegmentError,
    TransferError,
    WalkerBlock,
    WorkerMapper,
)
from ringwalk.mappers.process import longest_first
from ringwalk.workers.plan import CAPACITY

COSTS = [2.0, 30.0, 10.0, 50.0, 20.0]


def begun(walker: Any) -> int:
    """When the segment of a walker began."""
    return time.monotonic_ns()


def order_of(times: list[int]) -> list[int]:
    return sorted(range(len(times)), key=times.__getitem__)


def by_costs(seconds: Any) -> list[float]:
    assert len(seconds) == len(COSTS)
    return COSTS


def test_longest_first(process_mapper: type[Mapper]) -> None:
    with process_mapper(begun, num_workers=1, schedule=by_costs) as mapper:
        assert order_of(mapper.map(range(5))) == [0, 1, 2, 3, 4]
        assert order_of(mapper.map(range(5))) == [3, 1, 4, 2, 0]


def test_longest_first_with_payloads() -> None:
    with WorkerMapper(begun, num_workers=1, schedule=by_costs) as mapper:
        assert order_of(mapper.map([[k] for k in range(5)])) == [0, 1, 2, 3, 4]
        assert order_of(mapper.map([[k] for k in range(5)])) == [3, 1, 4, 2, 0]


def test_a_payload_that_cannot_be_sent_stops_an_ordered_map() -> None:
    with WorkerMapper(begun, num_workers=1, schedule=by_costs) as mapper:
        mapper.map(range(5))
        with pytest.raises(TransferError) as caught:
            mapper.map([[0], [1], [2], threading.Lock(), [4]])
        assert (caught.value.walker, caught.value.completed) == (3, [])
        assert len(mapper.map(range(5))) == 5


def test_the_last_map_says_what_is_longest(process_mapper: type[Mapper]) -> None:
    def outlast(since: int) -> int:
        """Take longer than it took from then until now, and so than any segment before."""
        before = time.monotonic_ns()
        while since and time.monotonic_ns() - before <= before - since:
            time.sleep((before - since) * 1e-9)
        return before

    with process_mapper(outlast, num_workers=1, schedule="longest") as mapper:
        mapper.map([0, time.monotonic_ns()])
        assert order_of(mapper.map([0, 0])) == [1, 0]
        # Nothing is known of another number of walkers.
        assert order_of(mapper.map([0] * 3)) == [0, 1, 2]


def test_longest_first_within_each_wave() -> None:
    assert longest_first(None, 0) is None
    assert longest_first(np.array([1.0, 3.0, 3.0, 2.0]), 0) == [1, 2, 3, 0]
    assert longest_first(np.arange(CAPACITY + 3.0), CAPACITY) == [2, 1, 0]


def test_rows_land_where_they_belong() -> None:
    def lengthen(row: Any) -> None:
        time.sleep(row.x)
        row.x += 1

    with WalkerBlock(4, x="f8") as block, WorkerMapper(lengthen, 2, schedule="longest") as mapper:
        block["x"] = [0.001, 0.02, 0.01, 0.0]
        mapper.map(block)
        block["x"] -= 1
        mapper.map(block)
        assert block["x"] == pytest.approx([1.001, 1.02, 1.01, 1.0])


def test_a_map_that_failed_says_nothing() -> None:
    def fail(k: int, walker: int) -> int:
        if k == walker:
            raise ValueError
        return begun(k)

    with WorkerMapper(fail, num_workers=1, schedule="longest") as mapper:
        with pytest.raises(SegmentError):
            mapper.map(range(4), itertools.repeat(2))
        assert order_of(mapper.map(range(4), itertools.repeat(-1))) == [0, 1, 2, 3]


@pytest.mark.parametrize("schedule", ["shortest", None, 3])
def test_an_unknown_schedule_is_refused(schedule: Any) -> None:
    with pytest.raises(ConfigError, match="schedule is"):
        WorkerMapper(begun, schedule=schedule)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda seconds: seconds[:-1], r"returned shape \(4,\) for 5 walkers"),
        (lambda seconds: seconds[np.array([7])], "failed on the 5 seconds"),
        (lambda seconds: ["soon"] * len(seconds), "failed on the 5 seconds"),
    ],
)
def test_a_function_that_does_not_answer_is_named(schedule: Any, message: str) -> None:
    with WorkerMapper(begun, num_workers=1, schedule=schedule) as mapper:
        mapper.map(range(5))
        with pytest.raises(ConfigError, match=message):
            mapper.map(range(5))
