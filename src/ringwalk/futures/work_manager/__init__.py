"""Work managers with WESTPA's interface: serial, threads, processes, MPI, Dask."""

from __future__ import annotations

from ringwalk.futures.work_manager.core import WorkManager
from ringwalk.futures.work_manager.dask import DaskWorkManager
from ringwalk.futures.work_manager.environment import (
    WMEnvironment,
    add_wm_args,
    default_env,
    make_work_manager,
    process_wm_args,
)
from ringwalk.futures.work_manager.future import FutureWatcher, WMFuture
from ringwalk.futures.work_manager.processes import ProcessWorkManager
from ringwalk.futures.work_manager.serial import SerialWorkManager
from ringwalk.futures.work_manager.wrapping import MPIWorkManager, ThreadsWorkManager

__all__ = [
    "DaskWorkManager",
    "FutureWatcher",
    "MPIWorkManager",
    "ProcessWorkManager",
    "SerialWorkManager",
    "ThreadsWorkManager",
    "WMEnvironment",
    "WMFuture",
    "WorkManager",
    "add_wm_args",
    "default_env",
    "make_work_manager",
    "process_wm_args",
]
