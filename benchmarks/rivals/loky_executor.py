"""loky's ProcessPoolExecutor, which mends itself: pinned, from PyPI.

Guarantees: workers are started before the first map is timed. ``chunksize`` items a
message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import loky


class LokyExecutor:
    """Maps with ``loky.ProcessPoolExecutor``."""

    def __init__(self, func: Callable[[Any], Any], workers: int, *, chunksize: int = 1) -> None:
        self._func = func
        self._chunksize = chunksize
        self._executor = loky.ProcessPoolExecutor(workers)

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
