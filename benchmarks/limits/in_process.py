"""Limits within one process: an empty call, a copy of a state, a future, no pool at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from benchmarks.contest import Contestant

Array = npt.NDArray[np.float64]


class SameProcess:
    """No pool: calls the function for one item after another."""

    def __init__(self, func: Callable[[Any], Any]) -> None:
        self._func = func

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        return [self._func(item) for item in items]

    def __exit__(self, *_: object) -> None:
        """Nothing lives between maps."""


class FutureAlone(SameProcess):
    """The standard library's future: made, given its result, asked for it. Nothing is sent."""

    def map(self, items: Sequence[Any]) -> list[Any]:
        results = []
        for item in items:
            future: Future[Any] = Future()
            future.set_result(self._func(item))
            results.append(future.result())
        return results


def empty_calls(count: int) -> Contestant:
    """Call a Python function that does nothing, once a walker."""

    def nothing(item: int) -> None:
        pass

    @contextmanager
    def opened() -> Iterator[Callable[[], int]]:
        def run() -> int:
            done = 0
            for done in range(count):
                nothing(done)
            return done + 1

        yield run

    def check(done: int) -> None:
        assert done == count

    return Contestant("empty Python call", opened, check)


def memcpy(walkers: int, length: int) -> Contestant:
    """Copy each walker's float64 state once, into memory that was touched before."""

    @contextmanager
    def opened() -> Iterator[Callable[[], tuple[Array, Array]]]:
        states = np.ones((walkers, length)) * np.arange(walkers)[:, np.newaxis]
        target = np.zeros_like(states)

        def run() -> tuple[Array, Array]:
            np.copyto(target, states)
            return states, target

        yield run

    def check(copied: tuple[Array, Array]) -> None:
        states, target = copied
        assert (states == target).all()

    return Contestant("memcpy", opened, check)
