"""A work manager for WESTPA on blocking pipes: what a careful person writes in an afternoon.

One pipe a worker, one task at a time each; the master sleeps in ``wait_any`` until a result comes.
No protection from a death, no streams. Run one of WESTPA's tools with it, and with ringwalk's::

    python -m benchmarks.rivals.westpa_pipes w_run --work-manager=pipes
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from typing import Any

import westpa.work_managers
from westpa.work_managers import environment
from westpa.work_managers.core import WMFuture, WorkManager

from ringwalk.adapters.westpa.__main__ import main

Task = tuple[WMFuture, tuple[Any, Any, Any]]


def serve(pipe: Connection, index: int) -> None:
    os.environ["WM_PROCESS_INDEX"] = str(index)
    while (task := pipe.recv()) is not None:
        func, args, kwargs = task
        try:
            pipe.send((func(*(args or ()), **(kwargs or {})), None))
        except Exception as error:  # the task's: it goes to the caller
            pipe.send((None, error))


class PipeFuture(WMFuture):  # type: ignore[misc]
    """Whoever asks takes results in: there is no thread that does."""

    def __init__(self, manager: PipeWorkManager) -> None:
        super().__init__()
        self._manager = manager

    def get_result(self, discard: bool = True) -> Any:
        self._manager.wait_any((self,))
        return super().get_result(discard)


class PipeWorkManager(WorkManager):  # type: ignore[misc]
    """Workers are forked at ``startup``."""

    def __init__(self, n_workers: int | None = None) -> None:
        super().__init__()
        self.n_workers = n_workers or os.cpu_count() or 1

    @classmethod
    def from_environ(cls, wmenv: Any = None) -> PipeWorkManager:
        wmenv = wmenv or environment.default_env
        return cls(wmenv.get_val("n_workers", os.cpu_count(), int))

    def startup(self) -> None:
        context = multiprocessing.get_context("fork")
        self._waiting: deque[Task] = deque()
        self._running: dict[Any, WMFuture] = {}
        self._idle: list[Any] = []
        self._workers = []
        for index in range(self.n_workers):
            ours, theirs = context.Pipe()
            worker = context.Process(target=serve, args=(theirs, index), daemon=True)
            worker.start()
            theirs.close()
            self._idle.append(ours)
            self._workers.append(worker)
        self.running = True

    def shutdown(self) -> None:
        if self.running:
            self.running = False
            for pipe in (*self._idle, *self._running):
                pipe.send(None)
            for worker in self._workers:
                worker.join()

    def submit(self, fn: Any, args: Any = None, kwargs: Any = None) -> WMFuture:
        future = PipeFuture(self)
        self._waiting.append((future, (fn, args, kwargs)))
        self._hand_out()
        return future

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            pipe = self._idle.pop()
            future, task = self._waiting.popleft()
            self._running[pipe] = future
            pipe.send(task)

    def wait_any(self, futures: Iterable[WMFuture]) -> WMFuture:
        while True:
            for future in futures:
                if future.done:
                    return future
            self._take_in()

    def _take_in(self) -> None:
        for pipe in wait(list(self._running)):
            result, error = pipe.recv()
            future = self._running.pop(pipe)
            self._idle.append(pipe)
            self._hand_out()
            if error is None:
                future._set_result(result)
            else:
                future._set_exception(error)

    def as_completed(self, futures: Iterable[WMFuture]) -> Any:
        pending = set(futures)
        while pending:
            future = self.wait_any(pending)
            pending.remove(future)
            yield future


if __name__ == "__main__":
    westpa.work_managers._available_work_managers["pipes"] = PipeWorkManager
    for holder in (environment.WMEnvironment, environment.default_env):
        if "pipes" not in holder.valid_work_managers:
            holder.valid_work_managers.append("pipes")
    main(sys.argv[1:])
