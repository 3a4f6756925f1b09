"""The mapper contract, the same for all four classes: what map takes and what it returns."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    ConfigError,
    MapError,
    Mapper,
    SegmentError,
    WalkerBlock,
    Worker,
    WorkerMapper,
)


def add(a: Any, b: Any, c: Any = 0) -> Any:
    return a + b + c


def test_results_are_in_input_order(any_mapper: type[Mapper]) -> None:
    with any_mapper(add, num_workers=3) as mapper:
        assert mapper.map(range(50), [k * 10 for k in range(50)]) == [11 * k for k in range(50)]


def test_any_iterable_serves_as_an_argument(any_mapper: type[Mapper]) -> None:
    with any_mapper(add, num_workers=2) as mapper:
        assert mapper.map((k for k in range(4)), itertools.repeat(10), c=itertools.count()) == [
            10,
            12,
            14,
            16,
        ]
        assert mapper.map({1: "a", 2: "b"}, itertools.repeat(1, 2), c=(5, 6)) == [7, 9]
        assert mapper.map(np.arange(3.0), itertools.cycle([1, 2])) == [1.0, 3.0, 3.0]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_walkers_than_workers(any_mapper: type[Mapper], count: int) -> None:
    with any_mapper(add, num_workers=3) as mapper:
        assert mapper.map(list(range(count)), itertools.repeat(1)) == list(range(1, count + 1))
        assert mapper.map(WalkerBlock(0, x="f8"), []) == []


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        (([1, 2], [1]), {}, "positional argument 0 has 2, positional argument 1 has 1"),
        (([1, 2], itertools.repeat(0, 3)), {}, "has 3"),
        (([1, 2],), {"b": (k for k in itertools.count())}, "argument 'b' has 3"),
        ((5, [1]), {}, "positional argument 0 is 5"),
        (("ab", [1, 2]), {}, "is 'ab'"),
        ((itertools.repeat(1), itertools.repeat(2)), {}, "no number of walkers"),
        ((), {}, "at least one argument"),
    ],
)
def test_unusable_arguments_are_refused(
    any_mapper: type[Mapper], args: Any, kwargs: Any, told: str
) -> None:
    with any_mapper(add, num_workers=2) as mapper:
        with pytest.raises(ConfigError, match=told):
            mapper.map(*args, **kwargs)
        assert mapper.map([1], [2]) == [3]


def test_lambdas_and_closures(any_mapper: type[Mapper]) -> None:
    factor = 3
    with any_mapper(lambda x: factor * x, num_workers=2) as mapper:
        assert mapper.map([1, 2, 3]) == [3, 6, 9]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -(2**63),
        2**63,
        2**200,
        1.5,
        float("inf"),
        "text",
        b"x" * 9000,
        (1, [2]),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_results_arrive_as_they_were(any_mapper: type[Mapper], value: Any) -> None:
    with any_mapper(lambda _: value, num_workers=1) as mapper:
        (result,) = mapper.map([0])
        assert result == value
        assert type(result) is type(value)


def test_numpy_scalars_keep_their_type(any_mapper: type[Mapper]) -> None:
    with any_mapper(lambda x: np.float32(x), num_workers=1) as mapper:
        (result,) = mapper.map([0.5])
        assert type(result) is np.float32


# --- failures --------------------------------------------------------------------------------


def odd_fails(k: int) -> int:
    if k % 2:
        raise KeyError(f"walker {k}")
    return k


def test_an_error_carries_all_that_finished(any_mapper: type[Mapper]) -> None:
    with any_mapper(odd_fails, num_workers=2, on_error="finish") as mapper:
        with pytest.raises(SegmentError) as caught:
            mapper.map(range(6))
        error = caught.value
        assert error.walker == 1
        assert error.results == {0: 0, 2: 2, 4: 4}
        assert list(error.errors) == [1, 3, 5]
        assert isinstance(error.__cause__, KeyError)
        assert error.__cause__.args == ("walker 1",)
        assert "in odd_fails" in error.remote_traceback
        assert mapper.map([0, 2]) == [0, 2]


def test_stop_hands_out_no_more(any_mapper: type[Mapper]) -> None:
    with any_mapper(odd_fails, num_workers=1) as mapper:
        with pytest.raises(SegmentError) as caught:
            mapper.map([0, 1, *range(2, 2000, 2)])
        assert caught.value.walker == 1
        assert caught.value.results[0] == 0
        assert len(caught.value.errors) == 1
        assert mapper.map([0, 2]) == [0, 2]


# --- completion order, progress, times ---------------------------------------------------------


def test_map_unordered_yields_each_walker_once(any_mapper: type[Mapper]) -> None:
    with any_mapper(add, num_workers=2) as mapper:
        pairs = list(mapper.map_unordered(range(40), itertools.repeat(1)))
        assert sorted(pairs) == [(k, k + 1) for k in range(40)]


def test_map_unordered_raises_at_the_next_element(any_mapper: type[Mapper]) -> None:
    with any_mapper(odd_fails, num_workers=1, on_error="finish") as mapper:
        iterator = mapper.map_unordered([0, 1, 2])
        with pytest.raises(MapError):
            list(iterator)
        assert mapper.map([4]) == [4]


def test_results_name_only_walkers_that_ran(any_mapper: type[Mapper]) -> None:
    ran: list[int] = []

    def fail_at_1(k: int) -> int:
        ran.append(k)
        if k == 1:
            raise ValueError("one")
        return k

    with any_mapper(fail_at_1, num_workers=1) as mapper:
        with pytest.raises(SegmentError) as caught:
            mapper.map([0, 1, 2, 3])
        assert caught.value.results[0] == 0
        assert 1 not in caught.value.results
        assert all(caught.value.results[k] == k for k in caught.value.completed)


def test_progress_counts_up_to_all(any_mapper: type[Mapper]) -> None:
    calls: list[tuple[int, int]] = []
    with any_mapper(
        add, num_workers=2, progress=lambda done, total: calls.append((done, total))
    ) as mapper:
        mapper.map(range(20), itertools.repeat(0))
    assert calls[-1] == (20, 20)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_segment_times_are_those_of_the_last_map(any_mapper: type[Mapper]) -> None:
    with any_mapper(add, num_workers=2) as mapper:
        for count in (5, 3):
            mapper.map(range(count), itertools.repeat(0))
            times = mapper.worker_segment_times
            assert sum(len(seconds) for seconds in times.values()) == count
            assert all(second >= 0 for seconds in times.values() for second in seconds)
            assert set(times) <= {0, 1}


# --- what the segment may ask for ----------------------------------------------------------------


def test_context_and_device_by_name(any_mapper: type[Mapper]) -> None:
    def segment(k: int, context: Any, device: Any) -> Any:
        return k, context, device

    with any_mapper(
        segment, num_workers=2, devices=[5], worker_init=lambda device: f"context on {device}"
    ) as mapper:
        assert mapper.map([1, 2]) == [(1, "context on 5", 5), (2, "context on 5", 5)]


def test_a_bare_kwargs_gets_nothing_it_did_not_ask_for(any_mapper: type[Mapper]) -> None:
    with any_mapper(lambda k, **kwargs: kwargs, num_workers=1, worker_init=lambda d: 1) as mapper:
        assert mapper.map([1], cycle=[3]) == [{"cycle": 3}]


class Doubling(Worker):
    def run_task(self, segment_func: Any, args: Any, kwargs: Any) -> Any:
        return self.attributes["factor"] * segment_func(*args, **kwargs)


def test_worker_types_wrap_each_call(process_mapper: type[Mapper]) -> None:
    name = "worker_type" if process_mapper is WorkerMapper else "walker_task_type"
    mapper = process_mapper(add, num_workers=2, attributes={"factor": 2}, **{name: Doubling})
    assert mapper.attributes == {"factor": 2}
    assert getattr(mapper, name) is Doubling
    with mapper:
        assert mapper.map([1, 2], [3, 4], c=[0, 1]) == [8, 14]
