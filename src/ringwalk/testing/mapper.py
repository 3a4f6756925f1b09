"""The contract of a mapper: what ``map`` takes, what it returns, how failures come back.

The first part holds for any mapper with ``init``, ``map`` and ``cleanup``, wepy's own classes
included. The second part is what Ringwalk adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import add
from typing import Any, Protocol

import numpy as np

from ringwalk.errors import ClosedError, ConfigError, MapError, SegmentError
from ringwalk.memory import WalkerBlock
from ringwalk.testing.checks import Checks, expect, expect_equal, expect_raises, run_checks


class MakeMapper(Protocol):
    """A mapper class, or a function that makes a mapper which is not initialised yet."""

    def __call__(
        self, segment_func: Callable[..., Any] = ..., *, num_workers: int = ..., **options: Any
    ) -> Any: ...


MAPPER_CHECKS = Checks()


def check_mapper(make: MakeMapper, *, deviations: Mapping[str, str] | None = None) -> None:
    """Run every check of the mapper contract.

    Args:
        make: called as ``make(segment_func, num_workers=2, **options)``.
        deviations: names of checks that are left out, each with the reason: what the class does
            otherwise on purpose.

    Raises:
        ExceptionGroup: what failed, one exception a check, with its name in a note.
        ValueError: ``deviations`` names no check.
    """
    run_checks(MAPPER_CHECKS, make, deviations)


@contextmanager
def _running(make: MakeMapper, func: Callable[..., Any], **options: Any) -> Iterator[Any]:
    options.setdefault("num_workers", 2)
    mapper = make(func, **options)
    mapper.init()
    try:
        yield mapper
    finally:
        mapper.cleanup()


def _sum(a: Any, b: Any, c: Any = 0) -> Any:
    return a + b + c


def _double(value: Any) -> Any:
    return value + value


def _fail_if_odd(k: int) -> int:
    if k % 2:
        raise KeyError(f"walker {k}")
    return k


def _set_first(array: Any) -> Any:
    array[0] = -1.0
    return array


# --- any mapper ----------------------------------------------------------------------------------


@MAPPER_CHECKS
def results_are_in_input_order(make: MakeMapper) -> None:
    with _running(make, _sum, num_workers=3) as mapper:
        found = list(mapper.map(range(50), [k * 10 for k in range(50)]))
        expect_equal(found, [11 * k for k in range(50)])


@MAPPER_CHECKS
def fewer_walkers_than_workers(make: MakeMapper) -> None:
    with _running(make, _double, num_workers=3) as mapper:
        for count in (1, 2):
            expect_equal(list(mapper.map(list(range(count)))), [2 * k for k in range(count)])


@MAPPER_CHECKS
def one_mapper_serves_many_maps(make: MakeMapper) -> None:
    with _running(make, _double) as mapper:
        for cycle in range(20):
            expect_equal(list(mapper.map([cycle, cycle + 1])), [2 * cycle, 2 * cycle + 2])


@MAPPER_CHECKS
def generators_serve_as_arguments(make: MakeMapper) -> None:
    with _running(make, _sum) as mapper:
        found = mapper.map(list(range(4)), (10 for _ in range(4)), c=(k for k in range(4)))
        expect_equal(list(found), [10, 12, 14, 16])


@MAPPER_CHECKS
def results_arrive_as_they_were(make: MakeMapper) -> None:
    values: list[Any] = [None, True, False, 0, -(2**63), 2**63, 2**200, 1.5, float("inf")]
    values += ["text", b"x" * 9000, (1, [2]), {"a": {3}}]
    with _running(make, _same) as mapper:
        for found, wanted in zip(mapper.map(values), values, strict=True):
            expect_equal(found, wanted)
        expect_equal(next(iter(mapper.map([np.float32(0.5)]))), np.float32(0.5))


def _same(value: Any) -> Any:
    return value


@MAPPER_CHECKS
def arguments_of_the_caller_are_not_changed(make: MakeMapper) -> None:
    for size in (10, 100_000):
        arrays = [np.zeros(size) for _ in range(3)]
        with _running(make, _set_first) as mapper:
            results = list(mapper.map(arrays))
        expect(all(array[0] == 0 for array in arrays), "a segment wrote into the caller's array")
        expect(all(result[0] == -1 for result in results), "what the segment wrote is not there")


@MAPPER_CHECKS
def results_may_be_written_to_and_outlive_the_mapper(make: MakeMapper) -> None:
    with _running(make, _double) as mapper:
        first = list(mapper.map([np.ones(100_000)] * 3))
        list(mapper.map([np.zeros(100_000)] * 3))
    for result in first:
        expect(bool((result == 2).all()), "a later map changed a result of an earlier one")
        result += 1


@MAPPER_CHECKS
def a_segment_that_raises_ends_the_map_with_its_exception(make: MakeMapper) -> None:
    with _running(make, _fail_if_odd) as mapper, expect_raises(Exception) as caught:
        list(mapper.map([0, 1, 2]))
    expect("walker 1" in _told(caught[0]), f"no word of the segment's error in {caught[0]!r}")


def _told(error: BaseException | None) -> str:
    """All texts of an exception, of what caused it and of what it wraps."""
    texts = []
    while error is not None:
        texts += [repr(error), repr(vars(error))]
        error = error.__cause__
    return " ".join(texts)


@MAPPER_CHECKS
def init_after_cleanup_starts_again(make: MakeMapper) -> None:
    mapper = make(_double, num_workers=2)
    for _ in range(2):
        mapper.init()
        try:
            expect_equal(list(mapper.map([1, 2, 3])), [2, 4, 6])
        finally:
            mapper.cleanup()


@MAPPER_CHECKS
def init_overrides_the_segment_function(make: MakeMapper) -> None:
    mapper = make(_fail_if_odd, num_workers=2)
    mapper.init(segment_func=_double)
    try:
        expect_equal(list(mapper.map([1, 3])), [2, 6])
    finally:
        mapper.cleanup()


# --- Ringwalk's contract -------------------------------------------------------------------------


@MAPPER_CHECKS
def lambdas_and_closures_serve_as_segments(make: MakeMapper) -> None:
    factor = 3
    with _running(make, lambda x: factor * x) as mapper:
        expect_equal(mapper.map([1, 2, 3]), [3, 6, 9])


@MAPPER_CHECKS
def no_walkers_give_no_results(make: MakeMapper) -> None:
    with _running(make, _double) as mapper:
        expect_equal(mapper.map([]), [])
        expect_equal(mapper.map(WalkerBlock(0, x="f8")), [])


@MAPPER_CHECKS
def any_iterable_serves_as_an_argument(make: MakeMapper) -> None:
    with _running(make, _sum) as mapper:
        found = mapper.map((k for k in range(4)), itertools.repeat(10), c=itertools.count())
        expect_equal(found, [10, 12, 14, 16])
        expect_equal(mapper.map({1: "a", 2: "b"}, itertools.repeat(1, 2), c=(5, 6)), [7, 9])
        found = mapper.map(np.arange(3.0), itertools.cycle([1, 2]))
        expect_equal([float(value) for value in found], [1.0, 3.0, 3.0])


@MAPPER_CHECKS
def unusable_arguments_are_refused(make: MakeMapper) -> None:
    unusable: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (([1, 2], [1]), {}),
        (([1, 2], itertools.repeat(0, 3)), {}),
        (([1, 2],), {"b": (k for k in itertools.count())}),
        ((5, [1]), {}),
        (("ab", [1, 2]), {}),
        ((itertools.repeat(1), itertools.repeat(2)), {}),
        ((), {}),
    ]
    with _running(make, _sum) as mapper:
        for args, kwargs in unusable:
            with expect_raises(ConfigError):
                mapper.map(*args, **kwargs)
            expect_equal(mapper.map([1], [2]), [3])


@MAPPER_CHECKS
def an_error_carries_all_that_finished(make: MakeMapper) -> None:
    with _running(make, _fail_if_odd, on_error="finish") as mapper:
        with expect_raises(SegmentError) as caught:
            mapper.map(range(6))
        error = caught[0]
        assert isinstance(error, SegmentError)
        expect_equal(error.walker, 1)
        expect_equal(error.results, {0: 0, 2: 2, 4: 4})
        expect_equal(list(error.errors), [1, 3, 5])
        expect(isinstance(error.__cause__, KeyError), f"the cause is {error.__cause__!r}")
        expect("in _fail_if_odd" in error.remote_traceback, error.remote_traceback)
        expect_equal(mapper.map([0, 2]), [0, 2])


@MAPPER_CHECKS
def stop_starts_no_more_walkers_after_an_error(make: MakeMapper) -> None:
    with _running(make, _fail_if_odd, num_workers=1) as mapper:
        with expect_raises(SegmentError) as caught:
            mapper.map([0, 1, *range(2, 2000, 2)])
        error = caught[0]
        assert isinstance(error, SegmentError)
        expect_equal(error.walker, 1)
        expect_equal(error.results[0], 0)
        expect_equal(len(error.errors), 1)
        expect(1 not in error.results, "a walker that failed has a result")
        expect_equal(mapper.map([0, 2]), [0, 2])


@MAPPER_CHECKS
def map_unordered_yields_each_walker_once(make: MakeMapper) -> None:
    with _running(make, _sum) as mapper:
        pairs = list(mapper.map_unordered(range(40), itertools.repeat(1)))
        expect_equal(sorted(pairs), [(k, k + 1) for k in range(40)])


@MAPPER_CHECKS
def map_unordered_yields_only_walkers_that_finished(make: MakeMapper) -> None:
    for on_error in ("stop", "finish"):
        with _running(make, _fail_if_odd, on_error=on_error) as mapper:
            pairs = []
            with expect_raises(MapError):
                pairs.extend(mapper.map_unordered([0, 1, *range(2, 40, 2)]))
            expect(all(value is not None for _, value in pairs), f"yielded {pairs}")
            expect_equal(mapper.map([4]), [4])


@MAPPER_CHECKS
def progress_counts_up_to_all(make: MakeMapper) -> None:
    calls: list[tuple[int, int]] = []
    with _running(make, _double, progress=lambda *counts: calls.append(counts)) as mapper:
        mapper.map(range(20))
    expect_equal(calls[-1], (20, 20))
    expect_equal([done for done, _ in calls], sorted(done for done, _ in calls))


@MAPPER_CHECKS
def segment_times_are_those_of_the_last_map(make: MakeMapper) -> None:
    with _running(make, _double) as mapper:
        for count in (5, 3):
            mapper.map(range(count))
            times = mapper.worker_segment_times
            expect_equal(sum(len(seconds) for seconds in times.values()), count)
            expect(all(second >= 0 for seconds in times.values() for second in seconds), str(times))
            expect(set(times) <= {0, 1}, f"workers {set(times)}")


@MAPPER_CHECKS
def a_segment_asks_for_context_and_device_by_name(make: MakeMapper) -> None:
    def segment(k: int, context: Any, device: Any) -> Any:
        return k, context, device

    with _running(
        make, segment, devices=[5], worker_init=lambda device: f"context on {device}"
    ) as mapper:
        expect_equal(mapper.map([1, 2]), [(1, "context on 5", 5), (2, "context on 5", 5)])


@MAPPER_CHECKS
def bare_kwargs_get_nothing_that_was_not_passed(make: MakeMapper) -> None:
    with _running(make, lambda k, **kwargs: kwargs, worker_init=lambda device: 1) as mapper:
        expect_equal(mapper.map([1], cycle=[3]), [{"cycle": 3}])


@MAPPER_CHECKS
def a_map_after_cleanup_is_refused(make: MakeMapper) -> None:
    mapper = make(add, num_workers=2)
    for _ in range(2):
        mapper.init()
        mapper.cleanup()
        mapper.cleanup()
    with expect_raises(ClosedError):
        mapper.map([1], [2])
