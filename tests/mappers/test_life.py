"""A mapper's life, the same for all four classes: options, init, cleanup, threads, travel."""

from __future__ import annotations

import copy
import itertools
import pickle
import threading
from operator import add
from typing import Any

import numpy as np
import pytest

from ringwalk import (
    BusyError,
    ClosedError,
    ConfigError,
    Mapper,
    ThreadMapper,
)


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
