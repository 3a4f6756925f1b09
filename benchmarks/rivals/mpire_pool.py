"""mpire.WorkerPool, which sells itself by speed: pinned, from PyPI.

Guarantees: workers are forked, and kept from map to map. numpy arrays given as one array are cut
by mpire itself; here every pool gets a list, so mpire gets one, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import mpire


class MpirePool:
    """Maps with ``WorkerPool.map``, ``chunksize`` items a message."""

    def __init__(self, func: Callable[[Any], Any], workers: int, *, chunksize: int = 1) -> None:
        self._func = func
        self._chunksize = chunksize
        self._pool = mpire.WorkerPool(n_jobs=workers, start_method="fork", keep_alive=True)

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        # Each item in a tuple of its own: mpire would spread an item that is iterable.
        wrapped = [(item,) for item in items]
        results: list[Any] = self._pool.map(
            self._func, wrapped, chunk_size=self._chunksize, concatenate_numpy_output=False
        )
        return results

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.stop_and_join()
        self._pool.terminate()
