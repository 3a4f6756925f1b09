"""The mapper contract, the same for all four classes: what map takes and what it returns."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    BusyError,
    ClosedError,
    ConfigError,
    MapError,
    Mapper,
    Row,
    SegmentError,
    ThreadMapper,
    WalkerBlock,
    Worker,
    WorkerMapper,
)


def add(a: Any, b: Any, c: Any = 0) -> Any:
    return a + b + c


def block_of(n: int) -> WalkerBlock:
    block = WalkerBlock(n, positions=((2, 3), "f8"), weight="f8", steps="i8")
    block["positions"] = np.arange(n * 6, dtype=float).reshape(n, 2, 3)
    block["weight"] = 1.0
    return block


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


def test_the_same_block_twice_is_refused(any_mapper: type[Mapper]) -> None:
    with block_of(2) as block, any_mapper(add, num_workers=1) as mapper:
        with pytest.raises(ConfigError, match="given twice"):
            mapper.map(block, block)


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


# --- walker blocks ---------------------------------------------------------------------------


def advance(row: Row, by: float, scale: float = 1.0) -> int:
    row.positions += by * scale
    row.steps = row.steps + 1
    row.weight *= 0.5
    return int(row.index)


def test_rows_are_written_in_place(any_mapper: type[Mapper]) -> None:
    with block_of(7) as block, any_mapper(advance, num_workers=2) as mapper:
        before = block["positions"].copy()
        assert mapper.map(block, itertools.repeat(1.0), scale=[float(k) for k in range(7)]) == list(
            range(7)
        )
        assert np.array_equal(block["positions"], before + np.arange(7.0)[:, None, None])
        assert mapper.map(block, [0.0] * 7) == list(range(7))
        assert block["steps"].tolist() == [2] * 7
        assert block["weight"].tolist() == [0.25] * 7


def test_a_returned_row_is_the_caller_s_row(any_mapper: type[Mapper]) -> None:
    def stamp(row: Row) -> Row:
        row.steps = 5
        return row

    with block_of(3) as block, any_mapper(stamp, num_workers=2) as mapper:
        rows = mapper.map(block)
        assert [row.index for row in rows] == [0, 1, 2]
        assert [int(row.steps) for row in rows] == [5, 5, 5]
        rows[0].steps = 6
        assert block["steps"].tolist() == [6, 5, 5]


def test_a_returned_row_is_of_its_own_block(any_mapper: type[Mapper]) -> None:
    with block_of(2) as first, WalkerBlock(2, other="i8") as second:
        with any_mapper(lambda p, q: q, num_workers=2) as mapper:
            assert [row.fields for row in mapper.map(first, second)] == [("other",)] * 2


def test_two_blocks_in_one_map(any_mapper: type[Mapper]) -> None:
    def copy(source: Row, target: Row) -> None:
        target.weight = source.weight + 1

    with block_of(4) as first, block_of(4) as second, any_mapper(copy, num_workers=2) as mapper:
        mapper.map(first, second)
        assert second["weight"].tolist() == [2.0] * 4
        assert first["weight"].tolist() == [1.0] * 4


def test_blocks_come_and_go_between_maps(any_mapper: type[Mapper]) -> None:
    with any_mapper(advance, num_workers=2) as mapper:
        for n in (1, 5, 3):
            with block_of(n) as block:
                mapper.map(block, itertools.repeat(1.0))
                with block.take([0] * (n + 1)) as clones:
                    mapper.map(clones, itertools.repeat(1.0))
                    assert clones["steps"].tolist() == [2] * (n + 1)


def test_a_failed_map_leaves_blocks_as_they_were(any_mapper: type[Mapper]) -> None:
    def fail_at_3(row: Row) -> int:
        row.positions = -1.0
        if row.index == 3:
            raise ValueError("three")
        return int(row.index)

    with block_of(6) as block, any_mapper(fail_at_3, num_workers=2, on_error="finish") as mapper:
        before = block["positions"].copy()
        with pytest.raises(SegmentError) as caught:
            mapper.map(block)
        assert np.array_equal(block["positions"], before)
        assert caught.value.completed == [0, 1, 2, 4, 5]
        block.keep(caught.value.completed)
        expected = np.full_like(before, -1.0)
        expected[3] = before[3]
        assert np.array_equal(block["positions"], expected)


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


def test_map_unordered_of_block_rows(any_mapper: type[Mapper]) -> None:
    def stamp(row: Row) -> Row:
        row.steps = 5
        return row

    with block_of(3) as block, any_mapper(stamp, num_workers=2) as mapper:
        seen = {walker: int(row.steps) for walker, row in mapper.map_unordered(block)}
        assert seen == {0: 5, 1: 5, 2: 5}
        assert block["steps"].tolist() == [5, 5, 5]


def test_closing_the_iterator_aborts_the_map(any_mapper: type[Mapper]) -> None:
    with block_of(6) as block, any_mapper(advance, num_workers=1) as mapper:
        iterator = mapper.map_unordered(block, itertools.repeat(1.0))
        next(iterator)
        iterator.close()
        assert block["steps"].tolist() == [0] * 6
        mapper.map(block, itertools.repeat(1.0))
        assert block["steps"].tolist() == [1] * 6


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


def test_an_error_in_progress_aborts_the_map(any_mapper: type[Mapper]) -> None:
    def progress(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with block_of(4) as block, any_mapper(advance, num_workers=2, progress=progress) as mapper:
        with pytest.raises(RuntimeError, match="enough"):
            mapper.map(block, itertools.repeat(1.0))
        assert block["steps"].tolist() == [0] * 4


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


# --- life ----------------------------------------------------------


def test_init_and_cleanup_any_number_of_times(any_mapper: type[Mapper]) -> None:
    mapper = any_mapper(num_workers=2)
    for func, expected in ((add, [3]), (max, [2])):
        mapper.init(segment_func=func)
        assert mapper.segment_func is func
        assert mapper.map([1], [2]) == expected
        mapper.cleanup()
        mapper.cleanup()
    with pytest.raises(ClosedError, match="not running"):
        mapper.map([1], [2])


def test_the_constructor_s_num_workers_wins(any_mapper: type[Mapper]) -> None:
    mapper = any_mapper(add, num_workers=2)
    mapper.init(num_workers=1)
    assert mapper.num_workers == 2
    mapper.cleanup()
    mapper = any_mapper(add)
    assert mapper.num_workers is None
    mapper.init(num_workers=1)
    assert mapper.num_workers == 1
    mapper.cleanup()


def test_init_twice_is_refused(any_mapper: type[Mapper]) -> None:
    with any_mapper(add, num_workers=1) as mapper:
        with pytest.raises(BusyError, match="cleanup"):
            mapper.init()
        assert mapper.map([1], [2]) == [3]


def test_no_segment_function_is_refused(any_mapper: type[Mapper]) -> None:
    with pytest.raises(ConfigError, match="segment_func"):
        any_mapper(num_workers=1).init()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("segment_func", 3),
        ("num_workers", 0),
        ("num_workers", 1.5),
        ("devices", []),
        ("worker_init", "x"),
        ("seed", -1),
        ("seed", "s"),
        ("on_error", "ignore"),
        ("timeout", 0),
        ("timeout", "5"),
        ("timeout", float("inf")),
        ("max_retries", -1),
        ("progress", 1),
        ("inputs", "write"),
        ("threads_per_worker", "all"),
    ],
)
def test_bad_options_are_refused_at_construction(
    any_mapper: type[Mapper], option: str, value: Any
) -> None:
    with pytest.raises(ConfigError) as caught:
        any_mapper(**{option: value})
    assert option in str(caught.value)


def test_timeout_needs_processes_that_can_be_killed() -> None:
    with pytest.raises(ConfigError, match="WorkerMapper or TaskMapper"):
        ThreadMapper(add, timeout=1.0)


def test_map_from_inside_a_map_is_refused(any_mapper: type[Mapper]) -> None:
    def progress(done: int, total: int) -> None:
        mapper.map([1], [2])

    with any_mapper(add, num_workers=1, progress=progress) as mapper:
        with pytest.raises(BusyError, match="inside"):
            mapper.map([1], [2])


def test_maps_of_several_threads_take_turns(any_mapper: type[Mapper]) -> None:
    results: dict[int, list[int]] = {}
    with any_mapper(add, num_workers=2) as mapper:

        def use(k: int) -> None:
            results[k] = mapper.map(range(k, k + 20), itertools.repeat(100))

        threads = [threading.Thread(target=use, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == {k: list(range(100 + k, 120 + k)) for k in range(4)}


def test_a_mapper_inside_a_segment(any_mapper: type[Mapper]) -> None:
    def nested(k: int) -> list[int]:
        with any_mapper(add, num_workers=2) as inner:
            return inner.map([k, k], [1, 2])

    with any_mapper(nested, num_workers=2) as mapper:
        assert mapper.map([10, 20]) == [[11, 12], [21, 22]]


def test_a_mapper_travels_until_it_runs(any_mapper: type[Mapper]) -> None:
    mapper = any_mapper(max, num_workers=2, seed=None, attributes={"platform": "CPU"})
    for copied in (copy.deepcopy(mapper), pickle.loads(pickle.dumps(mapper))):
        assert copied.num_workers == 2
        assert copied.attributes == {"platform": "CPU"}
        with copied:
            assert copied.map([1], [2]) == [2]
    with mapper:
        with pytest.raises(TypeError, match="cleanup"):
            pickle.dumps(mapper)
        with pytest.raises(TypeError, match="cleanup"):
            copy.deepcopy(mapper)


def test_a_closed_block_is_refused(any_mapper: type[Mapper]) -> None:
    block = block_of(2)
    block.close()
    with any_mapper(advance, num_workers=1) as mapper:
        with pytest.raises(ClosedError):
            mapper.map(block, [1.0, 1.0])
        assert mapper.map(block_of(1), [1.0]) == [0]


def test_a_later_run_goes_on_with_the_streams_where_an_earlier_one_ended(
    any_mapper: type[Mapper],
) -> None:
    def draw(k: int, rng: np.random.Generator) -> float:
        return rng.random()

    mapper = any_mapper(draw, num_workers=2, seed=3)
    mapper.init()
    together = [mapper.map(range(3)) for _ in range(3)]
    mapper.cleanup()
    mapper.init(cycle=1)
    assert [mapper.map(range(3)) for _ in range(2)] == together[1:]
    assert mapper.cycle == 3
    mapper.cleanup()
    with pytest.raises(ConfigError, match="cycle is -1"):
        mapper.init(cycle=-1)
