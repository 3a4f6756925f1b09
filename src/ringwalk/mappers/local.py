"""Running segments in the caller's own process: what SerialMapper and ThreadMapper share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ringwalk._core.board import now_ns
from ringwalk.describe import text_of
from ringwalk.errors import MapError, SegmentError, TransferError, WorkerInitError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.history import Ran
from ringwalk.mappers.wire import is_light
from ringwalk.memory.buffers import Inputs
from ringwalk.memory.repeated import Snapshot, is_immutable
from ringwalk.notebook import format_traceback
from ringwalk.workers.devices import device_for
from ringwalk.workers.job import (
    Column,
    Constant,
    Getter,
    Indexed,
    Job,
    Marker,
    Sources,
    UnreadableArgument,
)
from ringwalk.workers.setup import Setup
from ringwalk.workers.worker import Worker


def make_local_worker(setup: Setup, index: int) -> Worker:
    """A worker in this process. No device is bound: that would bind the caller."""
    device = device_for(index, setup.devices)
    worker = setup.worker_type(index, None if device is None else device.label, setup.attributes)
    if setup.worker_init is not None:
        try:
            worker.context = setup.worker_init(worker.device)
        except Exception as error:  # worker_init is user code
            raise WorkerInitError(
                f"worker_init raised in worker {index}: {type(error).__name__}: {text_of(error)}"
            ) from error
    return worker


@dataclass(frozen=True, slots=True)
class _Private:
    """A column whose elements the segment may do with as it likes."""

    column: Indexed
    inputs: Inputs

    def getter(self, sources: Sources, first: int) -> Getter:
        get, inputs = self.column.getter(sources, first), self.inputs

        def element(task: int) -> Any:
            try:
                return Snapshot(get(task), inputs).read()
            except Exception as error:  # pickling runs user code
                raise UnreadableArgument(error) from error

        return element


@dataclass(frozen=True, slots=True)
class _PrivateConstant:
    """A value of which each segment gets a copy of its own."""

    value: Any
    inputs: Inputs

    def getter(self, sources: Sources, first: int) -> Getter:
        taken: list[Snapshot] = []

        def copy(task: int) -> Any:
            try:
                if not taken:
                    taken.append(Snapshot(self.value, self.inputs))
                return taken[0].read()
            except Exception as error:  # pickling runs user code
                raise UnreadableArgument(error) from error

        return copy


def local_job(setup: Setup, arguments: Arguments, cycle: int) -> Job:
    def local(column: Column) -> Any:
        if isinstance(column, Constant):
            shared = is_immutable(column.value)
            return column if shared else _PrivateConstant(column.value, setup.inputs)
        if isinstance(column, Indexed) and not _gives_immutable(column.values):
            return _Private(column, setup.inputs)
        return column

    positional = tuple(local(column) for column in arguments.positional)
    named = {name: local(column) for name, column in arguments.named.items()}
    return Job(0, cycle, positional, named)


def _gives_immutable(values: Any) -> bool:
    """Whether a sequence gives numbers or texts, and no views of itself."""
    if isinstance(values, np.ndarray) and (values.ndim > 1 or values.dtype.kind == "V"):
        return False
    return is_light(values)


class Attempt:
    """One segment's run: its worker, result or error, and times."""

    __slots__ = ("error", "ran", "result", "walker", "worker")

    def __init__(
        self, call: Getter, mark: Marker, walker: int, worker: int, queued_ns: int
    ) -> None:
        self.walker = walker
        self.worker = worker
        self.result: Any = None
        self.error: MapError | None = None
        began = now_ns()
        try:
            self.result = mark(call(walker))
        except UnreadableArgument as unreadable:
            self.error = TransferError(
                f"an argument of walker {walker} cannot be copied for the segment: {unreadable}",
                walker=walker,
            )
            self.error.__cause__ = unreadable.reason
        except Exception as error:
            self.error = SegmentError(
                f"segment of walker {walker} raised "
                f"{type(error).__module__}.{type(error).__qualname__}: {text_of(error)}",
                walker=walker,
                remote_traceback=format_traceback(error),
            )
            self.error.__cause__ = error
        outcome = "done" if self.error is None else "failed"
        self.ran = Ran(walker, worker, 1, outcome, queued_ns, began, now_ns())

    def book(self, errors: dict[int, MapError], done: dict[int, Any]) -> bool:
        """Enter the outcome in one of them, and keep neither. True: the segment succeeded.

        The error's traceback leads to frames that have the attempt; see ``raise_first``.
        """
        error, self.error = self.error, None
        if error is None:
            done[self.walker] = self.result
            return True
        errors[self.walker] = error
        return False
