"""Managers on an executor of ``concurrent.futures``: threads, MPI; for Dask see ``dask``.

The executor's own threads or ranks run the tasks; its futures complete ours.
"""

from __future__ import annotations

import concurrent.futures
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from ringwalk._core.process import Undisturbed
from ringwalk.errors import ClosedError
from ringwalk.futures.work_manager.core import WorkManager
from ringwalk.futures.work_manager.environment import WMEnvironment
from ringwalk.futures.work_manager.future import WMFuture
from ringwalk.observe.progress import Progress


class WrappingWorkManager(WorkManager):
    """Submits to an executor that lives from ``startup`` to ``shutdown``."""

    _executor: concurrent.futures.Executor | None = None

    @abstractmethod
    def _open(self) -> concurrent.futures.Executor:
        """Make the executor."""

    def _close(self, executor: concurrent.futures.Executor) -> None:
        """End it: what waits is cancelled, what runs may finish."""
        executor.shutdown(wait=True, cancel_futures=True)

    def startup(self) -> None:
        if not self.running and self.is_master:
            self._executor = self._open()
        super().startup()

    def shutdown(self) -> None:
        executor, self._executor = self._executor, None
        super().shutdown()
        if executor is not None:
            self._close(executor)

    def submit(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> WMFuture:
        self._check_running()
        assert self._executor is not None
        future = self._new_future()
        with Undisturbed():  # an executor holds locks that its shutdown wants
            inner = self._send(self._executor, fn, tuple(args or ()), dict(kwargs or {}))
        inner.add_done_callback(lambda done: _pass_on(done, self._open_result, future))
        return future

    def _send(
        self, executor: concurrent.futures.Executor, fn: Any, args: Any, kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        """Have the executor run the call."""
        return executor.submit(run_call, fn, args, kwargs)

    def _open_result(self, result: Any) -> Any:
        """The call's result, from what the executor has of it."""
        return result


class TaskExit(Exception):
    """Carries what would end a worker, SystemExit or KeyboardInterrupt, to the caller."""


def run_call(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Where the executor runs it: what would end a worker becomes the task's error."""
    try:
        return fn(*args, **kwargs)
    except (SystemExit, KeyboardInterrupt) as stop:
        raise TaskExit(stop) from stop


def _pass_on(
    inner: concurrent.futures.Future[Any], open_result: Callable[[Any], Any], future: WMFuture
) -> None:
    if inner.cancelled():
        error: BaseException | None = ClosedError("the work manager was shut down")
    else:
        error = inner.exception()
    result = None
    if error is None:
        try:
            result = open_result(inner.result())
        except Exception as unreadable:  # unpickling runs user code
            error = unreadable
    if error is None:
        future._set_result(result)
    elif isinstance(error, TaskExit):
        future._set_exception(error.args[0], error.__traceback__)
    else:
        future._set_exception(error, error.__traceback__)


class ThreadsWorkManager(WrappingWorkManager):
    """Runs tasks in threads of this process. A running one cannot be ended."""

    def _open(self) -> concurrent.futures.Executor:
        return concurrent.futures.ThreadPoolExecutor(self.n_workers)


class MPIWorkManager(WrappingWorkManager):
    """Runs tasks in the other ranks that ``mpiexec`` started, by ``mpi4py.futures``.

    Nothing is forked or spawned. Rank 0 is the master; the others serve in ``run``. A rank that
    dies ends the whole MPI job: that is MPI's rule.
    """

    def __init__(
        self, n_workers: int | None = None, *, progress: Progress | bool | None = None
    ) -> None:
        from mpi4py import MPI

        self._rank = MPI.COMM_WORLD.Get_rank()
        super().__init__(max(1, MPI.COMM_WORLD.Get_size() - 1), progress=progress)

    @classmethod
    def from_environ(cls, wmenv: WMEnvironment | None = None) -> Self:
        return cls()

    @property
    def is_master(self) -> bool:
        return bool(self._rank == 0)

    def _open(self) -> concurrent.futures.Executor:
        from mpi4py.futures import MPICommExecutor

        self._ranks = MPICommExecutor(use_pkl5=True)
        executor: concurrent.futures.Executor = self._ranks.__enter__()
        return executor

    def _close(self, executor: concurrent.futures.Executor) -> None:
        executor.shutdown(wait=False, cancel_futures=True)
        self._ranks.__exit__(None, None, None)

    def run(self) -> None:
        """Serve the master until it shuts down."""
        from mpi4py.futures import MPICommExecutor

        with MPICommExecutor(use_pkl5=True):
            pass  # the ranks of this block serve inside its __enter__
