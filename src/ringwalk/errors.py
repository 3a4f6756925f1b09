"""Every error that Ringwalk raises, in one tree.

The branches say whose fault it is: ``ConfigError``, ``ClosedError``, ``BusyError`` and
``ForkedError`` are the caller's; ``MapError`` and its children are a segment's or a worker's;
``HeapFullError`` is the machine's. Each also derives from the standard type that a caller
would expect to catch. All of them pickle and copy, with their cause, context and attributes.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ringwalk.exception_chain import ChainedError


class RingwalkError(ChainedError):
    """Base of all errors of this package."""

    @staticmethod
    def stand_in(name: str, text: str) -> UnpicklableError:
        return UnpicklableError(f"{name}: {text} (the exception itself could not be pickled)")


class RingwalkWarning(UserWarning):
    """Something that will not end well, and that only the caller can change."""


class ConfigError(RingwalkError, ValueError):
    """An argument was refused before anything started."""


class ClosedError(RingwalkError, RuntimeError):
    """A mapper or block was used before ``init`` or after ``cleanup``/``close``."""


class BusyError(RingwalkError, RuntimeError):
    """A map was started from inside one of the same mapper, or of a block that another writes."""


class ForkedError(RingwalkError, RuntimeError):
    """A handle was used in a forked child of the process that owns it."""


class GpuInParentError(RingwalkError, RuntimeError):
    """A GPU runtime is initialised in the process that was about to fork."""


class CudaInParentError(GpuInParentError):
    """A CUDA driver is initialised in the process that was about to fork."""


class HeapFullError(RingwalkError, MemoryError):
    """Shared memory for task payloads could not be had; nothing was left behind."""


class PinError(RingwalkError, RuntimeError):
    """CUDA refused to register memory as pinned."""


class WorkerInitError(RingwalkError, RuntimeError):
    """A worker failed before it could take its first task."""


class RemoteTraceback(Exception):
    """Carries a worker's formatted traceback as the cause of the exception it belongs to."""

    def __init__(self, formatted: str) -> None:
        super().__init__(formatted)
        self.formatted = formatted

    def __str__(self) -> str:
        return f'\n"""\n{self.formatted}"""'


class UnpicklableError(RingwalkError):
    """Stands in for an exception that could not travel from the worker; keeps its text."""


class MapError(RingwalkError):
    """One walker of a map failed for good.

    Attributes:
        walker: index of the walker in the map's input.
        results: ``{walker: result}`` of every segment that did finish.
        errors: ``{walker: MapError}`` of every walker that failed, this one included.
    """

    def __init__(self, message: str, *, walker: int) -> None:
        super().__init__(message)
        self.walker = walker
        self.results: Mapping[int, Any] = {}
        # None stands for the error itself: it may have all results, so it must die when it is
        # dropped, not when the collector finds a cycle.
        self._errors: dict[int, MapError | None] = {walker: None}

    @property
    def errors(self) -> Mapping[int, MapError]:
        return {walker: error or self for walker, error in self._errors.items()}

    @errors.setter
    def errors(self, errors: Mapping[int, MapError]) -> None:
        self._errors = {
            walker: None if error is self else error for walker, error in errors.items()
        }

    @property
    def completed(self) -> list[int]:
        """Indices of the walkers whose segment finished, ascending."""
        return sorted(self.results)


class SegmentError(MapError):
    """The segment raised. ``__cause__`` is the original exception."""

    def __init__(self, message: str, *, walker: int, remote_traceback: str) -> None:
        super().__init__(message, walker=walker)
        self.remote_traceback = remote_traceback


class TransferError(MapError, TypeError):
    """An argument or a result could not be pickled or unpickled."""


class SegmentTimeout(MapError, TimeoutError):
    """The segment ran longer than the mapper's ``timeout`` and its process was killed."""


class WorkerDied(MapError):
    """The process that ran the segment died, on its last permitted attempt.

    Exactly one of ``exitcode`` and ``signal`` is set. ``out_of_memory``: the kernel killed it
    because the memory of the machine, or of its memory cgroup, ran out.
    """

    def __init__(
        self,
        message: str,
        *,
        walker: int,
        attempts: int,
        exitcode: int | None = None,
        signal: int | None = None,
        out_of_memory: bool = False,
    ) -> None:
        super().__init__(message, walker=walker)
        self.attempts = attempts
        self.exitcode = exitcode
        self.signal = signal
        self.out_of_memory = out_of_memory


class NodeLostError(MapError, BrokenExecutor):
    """A batch did not come back from its node, on its last permitted attempt.

    Attributes:
        host: the node, or those that it may have been: not every engine tells.
        batch: number of the batch in its map.
        walkers: what was in it; some of their segments may have run.
    """

    def __init__(self, message: str, *, walkers: range, host: str, batch: int) -> None:
        super().__init__(message, walker=walkers.start)
        self.walkers = walkers
        self.host = host
        self.batch = batch


class TaskDied(RingwalkError, BrokenProcessPool):
    """The process that ran a submitted task died, on its last permitted attempt.

    Only this task failed: the executor goes on. Exactly one of ``exitcode`` and ``signal`` is set.
    """

    def __init__(
        self, message: str, *, attempts: int, exitcode: int | None, signal: int | None
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.exitcode = exitcode
        self.signal = signal


class BrokenExecutorError(RingwalkError, BrokenProcessPool):
    """An executor has no workers and can get none, or was ended while the task was open."""


def size_limits() -> str:
    """The limits of this process that keep its pools small; empty where there are none."""
    kinds = ("ulimit -v", resource.RLIMIT_AS), ("ulimit -f", resource.RLIMIT_FSIZE)
    limits = [(name, resource.getrlimit(kind)[0]) for name, kind in kinds]
    return " and ".join(
        f"{name} is {limit >> 20:,} MiB, of which each process of a pool may use a share"
        for name, limit in limits
        if limit != resource.RLIM_INFINITY
    )


def raise_for_status(status: int, errno: int) -> None:
    """Raise the exception for a native status (``ext/csrc/status.h``)."""
    if status in (2, 7):
        raise HeapFullError(
            f"no shared memory for task payloads: {size_limits() or 'the machine has no more'}. "
            "Free results that are no longer needed, use fewer workers, send less per task, or "
            "raise the limit"
        )
    if status == 6:
        raise RingwalkError(
            "shared memory holds a value that no correct process writes: a segment overwrote "
            "memory that is not its own, or this is a bug of Ringwalk; please report it"
        )
    if status == 8:
        raise OSError(errno, os.strerror(errno))
    raise RingwalkError(f"native call answered the unexpected status {status}; please report it")
