"""loky's ProcessPoolExecutor, which mends itself, and joblib on top of it: pinned, from PyPI.

Guarantees: workers are started before the first map is timed. One item a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import joblib
import loky


class LokyExecutor:
    """Maps with ``loky.ProcessPoolExecutor``."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        self._func = func
        self._executor = loky.ProcessPoolExecutor(workers)

    def __enter__(self) -> Self:
        return self

    def submit(self, item: Any) -> Future[Any]:
        return self._executor.submit(self._func, item)

    def map(self, items: Sequence[Any]) -> list[Any]:
        return list(self._executor.map(self._func, items, chunksize=1))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()


class Joblib:
    """Maps with ``joblib.Parallel`` and its default backend, one item a message."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        self._func = joblib.delayed(func)
        self._parallel = joblib.Parallel(n_jobs=workers, batch_size=1)

    def __enter__(self) -> Self:
        self._parallel.__enter__()
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        results: list[Any] = self._parallel(self._func(item) for item in items)
        return results

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._parallel.__exit__(kind, error, traceback)
