"""Every error of the package comes back from pickle, copy and deepcopy as it was."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from ringwalk import Executor, errors
from tests.importable import nested_mapper

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, BaseException)
    and kind.__module__ == "ringwalk.errors"
]
WAYS = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "pickle, protocol 2": lambda error: pickle.loads(pickle.dumps(error, 2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "twice": lambda error: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error)))),
}
VALUES = {"walkers": range(3, 7), "host": "node-1", "remote_traceback": "Traceback ..."}


class Custom(Exception):
    """Pickle cannot make it again: it passes on another number of arguments than it takes."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__("custom")
        self.lock = threading.Lock()


def make(kind: type[BaseException]) -> Any:
    """An error of the class, each of its parameters set to something that is not the default."""
    parameters = inspect.signature(kind.__init__).parameters.values()
    keywords = {
        p.name: VALUES.get(p.name, 3 + k)
        for k, p in enumerate(parameters)
        if p.kind is p.KEYWORD_ONLY
    }
    return kind("what failed, and what to do", **keywords)


def raised(error: BaseException, cause: BaseException | None) -> Any:
    try:
        try:
            raise KeyError("context")
        except KeyError:
            raise error from cause
    except type(error) as caught:
        return caught


def chain(error: BaseException | None) -> list[Any]:
    """What can be seen of an exception and all that it refers to."""
    if error is None:
        return []
    return [
        type(error),
        error.args,
        str(error),
        getattr(error, "__notes__", None),
        error.__suppress_context__,
        chain(error.__cause__),
        chain(error.__context__),
    ]


def attributes(error: BaseException) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name not in ("results", "errors")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_comes_back_as_it_was(kind: type[BaseException], way: str) -> None:
    inner = raised(make(kind), None)
    cause = ValueError("the segment's own")
    cause.__cause__ = errors.RemoteTraceback("Traceback (most recent call last): ...")
    cause.__context__ = inner
    cause.add_note("of the cause")
    error = raised(make(kind), cause)
    error.add_note("on node 1")
    error.added_by_a_caller = [1, 2]
    again = WAYS[way](error)
    assert again is not error
    assert attributes(again) == attributes(error)
    if issubclass(kind, errors.RingwalkError):
        assert chain(again) == chain(error)
    else:  # of pickle's own kind: a cause by itself
        assert chain(again)[:4] == chain(error)[:4]


@pytest.mark.parametrize("way", WAYS)
def test_a_map_error_keeps_what_finished_and_all_errors(way: str) -> None:
    first, second = (errors.MapError(f"walker {k}", walker=k) for k in (1, 4))
    first.results = {0: "a", 2: [1.5]}
    first.errors = {1: first, 4: second}
    again = WAYS[way](first)
    assert again.results == first.results
    assert again.completed == [0, 2]
    assert chain(again.errors[4]) == chain(second)
    if way != "copy":
        assert again.errors[1] is again


@pytest.mark.parametrize("way", WAYS)
def test_an_error_whose_cause_cannot_be_pickled_keeps_its_text(way: str) -> None:
    error = raised(make(errors.SegmentError), Custom(1, 2))
    again = WAYS[way](error)
    if "copy" in way:
        assert again.__cause__ is error.__cause__
    else:
        assert type(again.__cause__) is errors.UnpicklableError
        assert "test_errors.Custom: custom" in str(again.__cause__)
    assert type(again.__context__) is KeyError


def test_causes_that_go_round_are_pickled() -> None:
    first, second = make(errors.ConfigError), make(errors.ClosedError)
    plain = ValueError("between")
    first.__cause__, plain.__cause__, second.__cause__ = plain, second, first
    again = pickle.loads(pickle.dumps(first))
    assert type(again.__cause__.__cause__) is errors.ClosedError
    assert again.__cause__.__cause__.__cause__ is again


@pytest.mark.parametrize("case", nested_mapper.CASES)
def test_a_mappers_error_leaves_a_process_pool_working(case: str) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for error in (pool.submit(nested_mapper.map_failing, case).exception() for _ in range(2)):
            assert isinstance(error, nested_mapper.CASES[case])
            assert error.results == nested_mapper.RESULTS
            assert error.errors[error.walker] is error
        assert pool.submit(abs, -3).result() == 3


def test_a_mappers_error_comes_back_from_a_ringwalk_executor() -> None:
    with Executor(1) as executor:
        error = executor.submit(nested_mapper.map_failing, "SegmentError").exception()
    assert isinstance(error, errors.SegmentError)
    assert "in fails" in error.remote_traceback
    assert isinstance(error.__cause__, KeyError)
    assert "in fails" in str(error.__cause__.__cause__)
