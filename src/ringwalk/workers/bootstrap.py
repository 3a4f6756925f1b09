"""The first moments of a forked process: everything it must not share with its parent."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from ringwalk._core.process import fork
from ringwalk.workers.devices import Device, bind_device, device_for
from ringwalk.workers.gpu_runtimes import check_fork_safe
from ringwalk.workers.loaded import thread_pools
from ringwalk.workers.logs import HandlerLocks
from ringwalk.workers.openmp import release_openmp_threads
from ringwalk.workers.setup import Setup
from ringwalk.workers.worker import Worker

Forked = TypeVar("Forked")

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

# Another process may end, or give memory back, meanwhile; a limit that is reached for good is not
# worth more than a moment.
_FORK_PAUSES_S = (0.01, 0.05, 0.2)


def prepare_fork() -> None:
    """What can wait, or refuse, before signals are held back for the fork itself.

    Raises GpuInParentError.
    """
    check_fork_safe()
    release_openmp_threads()
    flush_streams()


def flush_streams() -> None:
    """Write out what is buffered; before a fork, lest the child writes it a second time."""
    for file in (sys.stdout, sys.stderr):
        # A closed or detached stream has nothing to lose, and pythonw-like hosts have none.
        with contextlib.suppress(AttributeError, ValueError, OSError):
            file.flush()


def patiently(attempt: Callable[[], Forked]) -> Forked:
    """Fork, but take a refusal for want of processes or memory as back-pressure.

    Raises OSError when it lasts.
    """
    for pause in _FORK_PAUSES_S:
        try:
            return attempt()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ENOMEM):
                raise
        time.sleep(pause)
    return attempt()


def fork_watched(life: Callable[[], NoReturn]) -> tuple[int, int]:
    """Fork a process that lives ``life``; its pid and a pidfd of it. Raises as ``watched`` does."""

    def begin() -> int:
        pid = patiently(lambda: fork(HandlerLocks()))
        if pid == 0:
            life()
        return pid

    return watched(begin)


def watched(begin: Callable[[], int]) -> tuple[int, int]:
    """The pid of a process that ``begin`` forks, and a pidfd of it; ``begin`` returns here only.

    A process that cannot be watched is ended at once: raises OSError, and none is left.
    """
    pid = begin()
    try:
        return pid, os.pidfd_open(pid)
    except OSError:
        # A SIGCHLD handler of the user's program may have reaped it.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise


def limit_threads(threads: int) -> None:
    """Limit BLAS and OpenMP, those loaded now and those loaded later. For a fresh fork only.

    What is loaded was looked for before the fork, see ``thread_pools``.

    OpenBLAS has no threads then, and its setter would start some, to spin for 0.1 s of processor
    time in every lane. Its own variable says the same and starts none; it may only be lowered.
    """
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    for library in thread_pools().lib_controllers:
        if library.internal_api == "openblas":
            with contextlib.suppress(ValueError):  # a build that hides the variable
                used = ctypes.c_int.in_dll(library.dynlib, "blas_cpu_number")
                if threads <= used.value:
                    used.value = threads
                    continue
        library.set_num_threads(threads)


def make_worker(setup: Setup, index: int) -> Worker:
    """Bind cores and device, then make the worker and its context: the first user code in here."""
    if setup.cores is not None:
        os.sched_setaffinity(0, setup.cores[index])
    device = device_for(index, setup.devices)
    if device is not None:
        bind_device(device)
    label = device.label if isinstance(device, Device) else None
    worker = setup.worker_type(index, label, setup.attributes)
    if setup.worker_init is not None:
        worker.context = setup.worker_init(label)
    return worker


def exit_code(code: object) -> int:
    """The status that the interpreter would end with for ``SystemExit(code)``."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def leave(code: int) -> NoReturn:
    """End a forked process without running the parent's exit handlers."""
    flush_streams()
    os._exit(code)
