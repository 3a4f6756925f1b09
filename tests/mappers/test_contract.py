"""The mapper contract, on all four classes, and what a Worker class adds."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ringwalk import ConfigError, Mapper, Worker, WorkerMapper
from ringwalk.testing import MAPPER_CHECKS, Check


@pytest.mark.parametrize("check", MAPPER_CHECKS, ids=str)
def test_contract(any_mapper: type[Mapper], check: Check) -> None:
    check(any_mapper)


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
def test_a_refusal_names_the_argument(
    any_mapper: type[Mapper], args: Any, kwargs: Any, told: str
) -> None:
    with any_mapper(add, num_workers=2) as mapper:
        with pytest.raises(ConfigError, match=told):
            mapper.map(*args, **kwargs)


def add(a: Any, b: Any, c: Any = 0) -> Any:
    return a + b + c


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
