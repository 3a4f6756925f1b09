"""ProcessWorkManager: tasks on the pool that mappers and executor use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from ringwalk.config import resolve_num_workers, usable_cpus
from ringwalk.futures.calls import run_call
from ringwalk.futures.engine import Engine
from ringwalk.futures.work_manager.core import WorkManager
from ringwalk.futures.work_manager.future import WMFuture
from ringwalk.observe.progress import Progress
from ringwalk.workers.devices import resolve_devices
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.setup import Setup
from ringwalk.workers.worker import Worker

INDEX_VARIABLE = "WM_PROCESS_INDEX"


class NumberedWorker(Worker):
    """Tells tasks, and the programs that they start, the number of their worker."""

    def __init__(self, index: int, device: int | str | None, attributes: Mapping[str, Any]) -> None:
        super().__init__(index, device, attributes)
        os.environ[INDEX_VARIABLE] = str(index)


class WorkerProcess:
    """What a manager tells of one of its workers."""

    def __init__(self, manager: ProcessWorkManager, index: int) -> None:
        self._manager = manager
        self.index = index

    def is_alive(self) -> bool:
        """Whether the manager runs: a worker that dies is replaced."""
        return self._manager.running


class EngineHub:
    """Waiting threads tend the engine themselves; see ``ringwalk.futures.engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wait(self, done: Callable[[], bool], timeout: float | None = None) -> None:
        self._engine.wait(done, timeout)

    def notify(self) -> None:
        """The engine tells whoever waits."""


class ProcessWorkManager(WorkManager):
    """Runs tasks in worker processes, forked at ``startup`` with everything as it is then.

    Where a library has threads here that a forked worker would wait for, they start in a fresh
    interpreter instead (``start_method``).


    A worker that dies costs its task one attempt (``max_retries``) and is replaced; a task that
    gets no more attempts fails with ``TaskDied``, and the others go on.

    Args:
        n_workers: default, and for 0: the number of CPUs.
        shutdown_timeout: seconds that running tasks have to finish in ``shutdown``.
        devices: GPUs to share out among the workers: a list, "auto", or None to bind nothing.
    """

    start_method: StartMethod = "auto"
    worker_type: type[Worker] = NumberedWorker

    def __init__(
        self,
        n_workers: int | None = None,
        shutdown_timeout: float = 1.0,
        *,
        max_retries: int = 1,
        devices: Sequence[int | str] | Literal["auto"] | None = None,
        progress: Progress | bool | None = None,
    ) -> None:
        super().__init__(n_workers, progress=progress)
        resolve_num_workers(self.n_workers)
        self.shutdown_timeout = shutdown_timeout
        self.workers = [WorkerProcess(self, index) for index in range(self.n_workers)]
        self._max_retries = max_retries
        self._devices = resolve_devices(devices)
        self._engine: Engine | None = None

    def startup(self) -> None:
        if self.running:
            return
        setup = Setup(
            segment_func=run_call,
            num_workers=self.n_workers,
            devices=self._devices,
            worker_type=self.worker_type,
            threads=max(1, usable_cpus() // self.n_workers),
        )
        engine = Engine(setup, self.start_method, self._max_retries)
        try:
            engine.start()
        except BaseException:
            engine.close(grace=0)
            raise
        self._engine = engine
        self._hub = EngineHub(engine)
        super().startup()

    def shutdown(self) -> None:
        engine, self._engine = self._engine, None
        self.running = False
        with ExitStack() as ends:  # whatever a callback or the progress function raises
            ends.callback(super().shutdown)
            if engine is not None:
                engine.interrupted = True  # a second Ctrl-C may end this: do not wait at exit then
                ends.callback(engine.close, self.shutdown_timeout)
                engine.fail_waiting("the work manager was shut down before the task had started")

    def submit(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> WMFuture:
        """Have ``fn(*args, **kwargs)`` run by a worker.

        Raises:
            TypeError, AttributeError, pickle.PicklingError: it cannot be pickled.
            ClosedError: the manager is not running.
        """
        self._check_running()
        assert self._engine is not None
        future = self._new_future()
        self._engine.submit(future, fn, tuple(args or ()), dict(kwargs or {}))
        if self._progress.wanted:
            self._engine.expect()
        return future
