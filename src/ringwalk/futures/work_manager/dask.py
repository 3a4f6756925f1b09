"""DaskWorkManager: tasks on a Dask cluster, with the flags and variables of WESTPA's."""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pickle
from typing import Any, Self

from ringwalk.errors import ConfigError
from ringwalk.futures.work_manager.environment import WMEnvironment, default_env
from ringwalk.futures.work_manager.wrapping import WrappingWorkManager, run_call
from ringwalk.memory.by_value import dumps_by_value
from ringwalk.observe.progress import Progress

_FLAGS = {
    "dask_scheduler_address": "of a running scheduler, as 127.0.0.1:8786; default: a fresh one",
    "dask_scheduler_file": "the JSON file of a running scheduler",
    "dask_threads_per_worker": "threads of each worker of a fresh cluster; default: 1",
    "dask_memory_limit": "of each worker of a fresh cluster, as 1GiB; default: auto",
    "dask_shutdown_on_exit": "end a running cluster, too, when this program ends",
    "dask_n_retries": "how often a task that raised is run again; default: 0",
}


class DaskWorkManager(WrappingWorkManager):
    """Runs tasks on a Dask cluster: a running one, or one of our own.

    Dask starts dead workers anew, and runs a task of theirs as often as its option
    ``distributed.scheduler.allowed-failures`` says; then the task fails with ``KilledWorker``.

    Args:
        n_workers: of a cluster of our own; default, and for 0: the number of CPUs.
        scheduler: the address of a running one.
        scheduler_file: where a running one wrote its address.
        threads_per_worker, memory_limit: of a cluster of our own.
        shutdown_on_exit: ``shutdown`` ends the cluster, also one that ran before.
        retries: how often a task that raised is run again.
    """

    def __init__(
        self,
        n_workers: int | None = None,
        scheduler: str | None = None,
        *,
        scheduler_file: str | None = None,
        threads_per_worker: int = 1,
        memory_limit: str = "auto",
        shutdown_on_exit: bool = False,
        retries: int = 0,
        progress: Progress | bool | None = None,
    ) -> None:
        super().__init__(n_workers, progress=progress)
        if scheduler is not None and scheduler_file is not None:
            raise ConfigError(
                f"scheduler is {scheduler!r} and scheduler_file is {scheduler_file!r}; give one"
            )
        self._cluster: dict[str, Any] = {
            "n_workers": self.n_workers,
            "threads_per_worker": threads_per_worker,
            "memory_limit": memory_limit,
            "dashboard_address": None,
        }
        if scheduler is not None:
            self._cluster = {"address": scheduler}
        elif scheduler_file is not None:
            self._cluster = {"scheduler_file": scheduler_file}
        self._shutdown_on_exit = shutdown_on_exit
        self._retries = retries

    @classmethod
    def from_environ(cls, wmenv: WMEnvironment | None = None) -> Self:
        """As flags and variables say: ``WM_N_WORKERS``, ``WM_DASK_SCHEDULER_ADDRESS``, ..."""
        wmenv = wmenv or default_env
        return cls(
            wmenv.get_val("n_workers", os.cpu_count() or 1, int),
            wmenv.get_val("dask_scheduler_address"),
            scheduler_file=wmenv.get_val("dask_scheduler_file"),
            threads_per_worker=wmenv.get_val("dask_threads_per_worker", 1, int),
            memory_limit=wmenv.get_val("dask_memory_limit", "auto"),
            shutdown_on_exit=bool(wmenv.get_val("dask_shutdown_on_exit", False)),
            retries=wmenv.get_val("dask_n_retries", 0, int),
        )

    @classmethod
    def add_wm_args(
        cls, parser: argparse.ArgumentParser, wmenv: WMEnvironment | None = None
    ) -> None:
        """Add ``--dask-scheduler-address`` and its like."""
        wmenv = wmenv or default_env
        group = parser.add_argument_group("options for the dask work manager")
        for name, told in _FLAGS.items():
            # No defaults here: they would hide the variables.
            kind: dict[str, Any] = {"metavar": name.rpartition("_")[2].upper()}
            if name == "dask_shutdown_on_exit":
                kind = {"action": "store_const", "const": "1"}
            group.add_argument(wmenv.arg_flag(name), dest=wmenv.arg_name(name), help=told, **kind)

    def _open(self) -> concurrent.futures.Executor:
        from dask.distributed import Client

        self._client = Client(**self._cluster)
        executor: concurrent.futures.Executor = self._client.get_executor(
            pure=False, retries=self._retries
        )
        return executor

    def _send(
        self, executor: concurrent.futures.Executor, fn: Any, args: Any, kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        # Dask's scheduler unpickles, too, and its client waits for ever for a result that cannot
        # be pickled.
        return executor.submit(_run_sealed, dumps_by_value((fn, args, kwargs)))

    def _open_result(self, result: Any) -> Any:
        return pickle.loads(result)

    def _close(self, executor: concurrent.futures.Executor) -> None:
        executor.shutdown(wait=False)  # Dask's cancels what waits, and knows no other argument
        if self._shutdown_on_exit:
            self._client.shutdown()
        self._client.close()


def _run_sealed(call: bytes) -> bytes:
    """Run a pickled call; its result, pickled."""
    fn, args, kwargs = pickle.loads(call)
    return dumps_by_value(run_call(fn, args, kwargs))
