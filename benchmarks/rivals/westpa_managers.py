"""WESTPA's own work managers: serial, threads and processes, of WESTPA 2022.16, unmodified.

All tasks are submitted, then taken as they complete, as WESTPA's simulation manager does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata
from types import TracebackType
from typing import Any, Self

from westpa.work_managers import (  # type: ignore[import-untyped]
    ProcessWorkManager,
    SerialWorkManager,
    ThreadsWorkManager,
)

PINNED = "2022.16"
if metadata.version("westpa") != PINNED:
    raise ImportError(
        f"westpa {metadata.version('westpa')} is installed, the comparison is with {PINNED}: "
        f"pip install westpa=={PINNED}"
    )


class _WestpaManager:
    """A work manager for the time of a context."""

    def __init__(self, func: Callable[[Any], Any], manager: Any) -> None:
        self._func = func
        self._manager = manager

    def __enter__(self) -> Self:
        self._manager.startup()
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        numbers = {self._manager.submit(self._func, (item,)): n for n, item in enumerate(items)}
        results: list[Any] = [None] * len(items)
        for future in self._manager.as_completed(list(numbers)):
            results[numbers[future]] = future.get_result()
        return results

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.shutdown()


class WestpaSerial(_WestpaManager):
    """Runs a task when it is submitted, in the caller."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        super().__init__(func, SerialWorkManager())


class WestpaThreads(_WestpaManager):
    """Threads on a queue."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        super().__init__(func, ThreadsWorkManager(workers))


class WestpaProcesses(_WestpaManager):
    """Processes that look whether ``multiprocessing.Queue`` is empty, again and again."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        super().__init__(func, ProcessWorkManager(workers))
