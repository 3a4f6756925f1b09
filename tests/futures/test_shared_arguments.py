"""What open calls have in common is written once, and each gets it as it was submitted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ringwalk import Executor

Array = np.ndarray[Any, Any]
LENGTH = 100_000  # numbers of 8 bytes
CALLS = 50


@contextmanager
def all_open(executor: Executor) -> Iterator[None]:
    """Has the executor's one worker wait, so that calls that are submitted meanwhile stay open."""
    with TemporaryDirectory() as folder:
        gate = Path(folder, "gate")
        os.mkfifo(gate)
        waits = executor.submit(gate.read_bytes)
        try:
            yield
        finally:
            gate.write_bytes(b"!")
            waits.result()


def held_bytes(executor: Executor) -> int:
    stream = executor._engine._stream
    assert stream is not None
    return stream.pool.space.heaps[0].usage()["held_bytes"]


def take(array: Array, k: int) -> tuple[float, int]:
    """The call's own: others do not see that it is written."""
    first = float(array[0])
    if array.flags.writeable:
        array[0] = -1.0
    return first, k


class Taker:
    def __init__(self, array: Array) -> None:
        self.array = array

    def take(self, k: int) -> tuple[float, int]:
        return take(self.array, k)


def by_argument(executor: Executor, array: Array, k: int) -> Any:
    return executor.submit(take, array, k)


def by_partial(executor: Executor, array: Array, k: int) -> Any:
    return executor.submit(functools.partial(take, array), k)


def by_method(executor: Executor, array: Array, k: int) -> Any:
    return executor.submit(Taker(array).take, k)


def in_an_object(executor: Executor, array: Array, k: int) -> Any:
    return executor.submit(lambda part, k: take(part.array, k), SimpleNamespace(array=array), k)


Submit = Callable[[Executor, Array, int], Any]
WAYS = [by_argument, by_partial, by_method, in_an_object]


@pytest.mark.parametrize("inputs", ["copy", "readonly"])
@pytest.mark.parametrize("submit", WAYS)
def test_what_open_calls_share_is_written_once(submit: Submit, inputs: Any) -> None:
    array = np.full(LENGTH, 3.0)
    with Executor(1, inputs=inputs) as executor:
        for _ in range(2):
            with all_open(executor):
                futures = [submit(executor, array, k) for k in range(CALLS)]
                assert held_bytes(executor) < 2 * array.nbytes
            assert [future.result() for future in futures] == [(3.0, k) for k in range(CALLS)]
            assert held_bytes(executor) < array.nbytes


@pytest.mark.parametrize("submit", WAYS)
def test_a_call_means_what_it_was_given_as_it_was_then(submit: Submit) -> None:
    array = np.zeros(LENGTH)
    with Executor(1) as executor:
        futures = []
        with all_open(executor):
            for k in range(CALLS):
                array[0] = k // 10
                futures.append(submit(executor, array, k))
        assert [future.result() for future in futures] == [(k // 10, k) for k in range(CALLS)]
    assert array[0] == (CALLS - 1) // 10


@pytest.mark.parametrize("submit", WAYS)
def test_cancelled_calls_let_go_of_what_they_share(submit: Submit) -> None:
    array = np.full(LENGTH, 3.0)
    with Executor(1) as executor:
        with all_open(executor):
            futures = [submit(executor, array, k) for k in range(4)]
            assert [future.cancel() for future in futures[1:]] == [True] * 3
            assert array.nbytes <= held_bytes(executor) < 2 * array.nbytes
        assert futures[0].result() == (3.0, 0)
        assert held_bytes(executor) < array.nbytes


def test_arrays_that_lie_where_another_lay_are_not_mistaken_for_it() -> None:
    with Executor(1) as executor:
        with all_open(executor):
            futures = [executor.submit(take, np.full(LENGTH, float(k)), k) for k in range(CALLS)]
        assert [future.result() for future in futures] == [(float(k), k) for k in range(CALLS)]


class Carrier:
    """A callable object with a large state that pickle writes in band."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.calls = 0

    def __call__(self, k: int) -> tuple[str, int, int]:
        self.calls += 1
        return self.text[:1], self.calls, k


def head(text: str | bytes, k: int) -> tuple[str | bytes, int, int]:
    return text[:1], 1, k


LARGE = 1 << 20
CARRIERS: list[Callable[[str], Callable[[int], Any]]] = [
    lambda letter: functools.partial(head, letter * LARGE),
    lambda letter: functools.partial(head, letter.encode() * LARGE),
    lambda letter: Carrier(letter * LARGE),
    lambda letter: Carrier(letter * LARGE).__call__,
    lambda letter: functools.partial(lambda text, k: (text[:1], 1, k), letter * LARGE),
]


@pytest.mark.parametrize("make", CARRIERS)
def test_a_large_callable_of_open_calls_is_written_once(make: Any) -> None:
    with Executor(1) as executor:
        for letter in "ab":
            expected = make(letter)(0)[:2]
            carrier = make(letter)
            with all_open(executor):
                futures = [executor.submit(carrier, k) for k in range(CALLS)]
                futures += [executor.submit(make(letter), k) for k in range(CALLS)]
                assert held_bytes(executor) < 3 * LARGE
            assert [future.result() for future in futures] == [
                (*expected, k) for k in [*range(CALLS)] * 2
            ]
            assert held_bytes(executor) < LARGE


def test_a_large_callable_means_what_it_is_when_it_is_submitted() -> None:
    carrier = Carrier("a" * LARGE)
    with Executor(1) as executor:
        futures = []
        with all_open(executor):
            for k in range(CALLS):
                carrier.text = "abcdefghijk"[k // 10] * LARGE
                futures.append(executor.submit(carrier, k))
            futures.append(executor.submit(functools.partial(head, "short"), 0))
        assert [future.result() for future in futures] == [
            *[("abcdefghijk"[k // 10], 1, k) for k in range(CALLS)],
            ("s", 1, 0),
        ]
    assert carrier.calls == 0
