"""concurrent.futures.ThreadPoolExecutor: no copies, no processes, no protection from a crash.

A floor rather than a rival: its segments share the parent's memory and its GIL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, Self


class ThreadPoolExecutor:
    """Maps with ``Executor.map``."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        self._func = func
        self._executor = futures.ThreadPoolExecutor(workers)

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        return list(self._executor.map(self._func, items))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._executor.shutdown()
