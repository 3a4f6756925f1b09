"""The smallest pool on faster-fifo, a C++ queue in shared memory: pinned, from PyPI.

    parent --queue of (number, item)--> workers --queue of (number, result)--> parent

The parent puts and takes many messages at a time, as the package is meant to be used.

Does not: notice that a worker died, bring exceptions back, or bound what is in flight other than
by the queues' size.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from faster_fifo import Queue

# Room for a batch of the largest walkers of these benchmarks on their way, in each direction.
QUEUE_BYTES = 128 << 20
AT_A_TIME = 64  # messages a call: with more, one worker would take all of a small batch
FOR_EVER_S = 3600.0


class FasterFifoPool:
    """Maps by one message an item."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        self._tasks = Queue(QUEUE_BYTES)
        self._results = Queue(QUEUE_BYTES)
        fork = multiprocessing.get_context("fork")
        arguments = (func, self._tasks, self._results)
        self._workers = [fork.Process(target=_work, args=arguments) for _ in range(workers)]
        for worker in self._workers:
            worker.start()

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[Any]:
        results: list[Any] = [None] * len(items)
        tasks = list(enumerate(items))
        for first in range(0, len(tasks), AT_A_TIME):
            self._tasks.put_many(tasks[first : first + AT_A_TIME], timeout=FOR_EVER_S)
        missing = len(tasks)
        while missing:
            for number, result in self._results.get_many(timeout=FOR_EVER_S):
                results[number] = result
                missing -= 1
        return results

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _ in self._workers:
            self._tasks.put(None)
        for worker in self._workers:
            worker.join()
            worker.close()
        self._tasks.close()
        self._results.close()


def _work(func: Callable[[Any], Any], tasks: Any, results: Any) -> None:
    while True:
        # One task at a time: a worker that takes many keeps them from an idle one.
        task = tasks.get(timeout=FOR_EVER_S)
        if task is None:
            return
        number, item = task
        results.put((number, func(item)), timeout=FOR_EVER_S)
