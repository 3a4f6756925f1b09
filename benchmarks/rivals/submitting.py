"""Pools whose tasks are submitted one by one, and asked for one by one: 1,000 in flight.

``concurrent.futures.ProcessPoolExecutor`` and ``multiprocessing.Pool.apply_async``, from the
standard library of the Python that runs this; workers are forked and started before.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import Any


class Submitting:
    """Maps by one submit and one result an item.

    Args:
        submit: hands out ``func(item)``; what it returns gives the result when called.
    """

    def __init__(self, submit: Callable[[Any], Callable[[], Any]]) -> None:
        self._submit = submit

    def map(self, items: Sequence[Any]) -> list[Any]:
        pending = [self._submit(item) for item in items]
        return [result() for result in pending]


@contextmanager
def executor(
    make: Callable[[int], futures.Executor], func: Callable[[Any], Any], workers: int
) -> Iterator[Submitting]:
    """Any executor, ours included."""
    with make(workers) as running:
        yield Submitting(lambda item: running.submit(func, item).result)


def process_pool(workers: int) -> futures.Executor:
    return futures.ProcessPoolExecutor(workers, multiprocessing.get_context("fork"))


@contextmanager
def apply_async(func: Callable[[Any], Any], workers: int) -> Iterator[Submitting]:
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield Submitting(lambda item: pool.apply_async(func, (item,)).get)
