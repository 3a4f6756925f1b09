"""concurrent.futures.ProcessPoolExecutor, from the standard library of the Python that runs this.

Guarantees: workers are forked, as ringwalk's are by default, and started before the first map is
timed. ``chunksize=1`` is the default of ``Executor.map`` and what most scripts use.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self


class ProcessPoolExecutor:
    """Maps with ``Executor.map``, ``chunksize`` items a message."""

    def __init__(self, func: Callable[[Any], Any], workers: int, *, chunksize: int = 1) -> None:
        self._func = func
        self._chunksize = chunksize
        fork = multiprocessing.get_context("fork")
        self._executor = futures.ProcessPoolExecutor(workers, mp_context=fork)

    def __enter__(self) -> Self:
        return self

    def submit(self, item: Any) -> Future[Any]:
        return self._executor.submit(self._func, item)

    def map(self, items: Sequence[Any]) -> list[Any]:
        return list(self._executor.map(self._func, items, chunksize=self._chunksize))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
