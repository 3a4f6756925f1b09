"""joblib.Parallel with its default backend, loky: pinned, from PyPI.

Guarantees: workers are started before the first map is timed, and end with the context, where
joblib by itself would keep them for the next user. ``batch_size`` items a message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import joblib


class Joblib:
    """Maps with ``joblib.Parallel``."""

    def __init__(self, func: Callable[[Any], Any], workers: int, *, batch_size: int = 1) -> None:
        self._func = joblib.delayed(func)
        self._parallel = joblib.Parallel(n_jobs=workers, batch_size=batch_size)

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
        # joblib has no public way to end them, and with them the files through which it sends.
        workers = self._parallel._backend._workers
        self._parallel.__exit__(kind, error, traceback)
        workers.terminate(kill_workers=True)
