"""wepy's own mappers: wepy 1.2 from PyPI, unmodified, called as its simulation manager calls them.

Guarantees: nothing of a mapper is left when its context ends. wepy itself keeps a manager process
and replaces the SIGTERM handler of the parent for good; both would disturb the next contestant.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from importlib import metadata
from types import TracebackType
from typing import Any, Self

from wepy.work_mapper import mapper, task_mapper  # type: ignore[import-untyped]

PINNED = "1.2"
if metadata.version("wepy") != PINNED:
    raise ImportError(
        f"wepy {metadata.version('wepy')} is installed, the comparison is with {PINNED}: "
        f"pip install wepy=={PINNED}"
    )


class _WepyMapper:
    """A wepy mapper for the time of a context."""

    def __init__(self, mapper: Any) -> None:
        self._mapper = mapper
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def __enter__(self) -> Self:
        self._mapper.init()
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        return list(self._mapper.map(items))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._mapper.cleanup()
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._mapper = None
        # The manager process lives as long as anything refers to its queues: the worker objects
        # do until they are reaped, the mapper does in cycles.
        for process in multiprocessing.active_children():
            if isinstance(process, (mapper.Worker, task_mapper.WalkerTaskProcess)):
                process.join()
        gc.collect()


class WepyWorkerMapper(_WepyMapper):
    """wepy's ``WorkerMapper``: persistent workers."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        super().__init__(
            mapper.WorkerMapper(num_workers=workers, worker_type=mapper.Worker, segment_func=func)
        )


class WepyTaskMapper(_WepyMapper):
    """wepy's ``TaskMapper``: a process a walker."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        super().__init__(
            task_mapper.TaskMapper(
                num_workers=workers,
                walker_task_type=task_mapper.WalkerTaskProcess,
                segment_func=func,
            )
        )
