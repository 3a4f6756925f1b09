"""multiprocessing.Pool, from the standard library of the Python that runs this.

Guarantees: workers are forked; ``Pool.map`` gets the chunk size that was fastest for the scenario.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self


class MultiprocessingPool:
    """Maps with ``Pool.map``, ``chunksize`` items a message."""

    def __init__(self, func: Callable[[Any], Any], workers: int, *, chunksize: int) -> None:
        self._func = func
        self._chunksize = chunksize
        self._pool = multiprocessing.get_context("fork").Pool(workers)

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        return self._pool.map(self._func, items, chunksize=self._chunksize)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.close()
        self._pool.join()
