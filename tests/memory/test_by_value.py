"""Functions that are sent by value say in tracebacks where they were written."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from ringwalk import Executor, MapError, WorkerMapper
from ringwalk.cluster.packing import Pack
from ringwalk.memory.by_value import dumps_by_value


def make_failing() -> tuple[Callable[[int], int], int]:
    def fails(number: int) -> int:
        def inner() -> int:
            return [number][7]

        return inner()

    return fails, fails.__code__.co_firstlineno + 2


def codes(code: CodeType) -> list[CodeType]:
    """A code object and those of the functions inside it."""
    return [code, *(c for const in code.co_consts if type(const) is CodeType for c in codes(const))]


@pytest.mark.parametrize("dumps", [dumps_by_value, lambda f: Pack.of(f).data])
def test_code_keeps_the_name_of_its_file(dumps: Callable[[object], bytes]) -> None:
    sent = pickle.loads(dumps(make_failing()[0]))
    assert {code.co_filename for code in codes(sent.__code__)} == {__file__}


def test_methods_keep_the_name_of_their_file() -> None:
    class Local:
        def method(self) -> None: ...

    assert pickle.loads(dumps_by_value(Local)).method.__code__.co_filename == __file__


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_an_executors_traceback_says_file_and_line(start_method: Any) -> None:
    fails, line = make_failing()
    with Executor(1, start_method=start_method) as executor:
        cause = str(executor.submit(fails, 1).exception().__cause__)
    assert f'File "{__file__}", line {line}, in inner' in cause


def test_a_spawned_workers_traceback_says_file_and_line() -> None:
    fails, line = make_failing()
    with WorkerMapper(fails, num_workers=1, start_method="spawn") as mapper:
        with pytest.raises(MapError) as raised:
            mapper.map([1])
    assert f'File "{__file__}", line {line}, in inner' in str(raised.value.__cause__.__cause__)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython as far as tracebacks ask it: this file is its cell 3."""
    cells = {__file__: ("Cell", "In[3]")}
    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=cells.get))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


@pytest.mark.parametrize("by_value", [False, True])
def test_a_notebooks_traceback_names_the_cell(notebook: None, by_value: bool) -> None:
    fails, line = make_failing()
    with Executor(1) as executor:
        if by_value:
            executor.submit(abs, 1).result()
            cause = executor.submit(fails, 1).exception().__cause__
        else:
            with WorkerMapper(fails, num_workers=1) as mapper, pytest.raises(MapError) as raised:
                mapper.map([1])
            cause = raised.value.__cause__.__cause__
    assert f'File "Cell In[3]", line {line}, in inner' in str(cause)


def test_every_exception_of_a_chain_names_its_cell(notebook: None) -> None:
    from ringwalk.notebook import format_traceback

    try:
        try:
            raise ExceptionGroup("several", [KeyError("inner")])
        except ExceptionGroup as group:
            raise ValueError("outer") from group
    except ValueError as error:
        formatted = format_traceback(error)
    assert formatted.count('"Cell In[3]"') == 2
    assert __file__ not in formatted
