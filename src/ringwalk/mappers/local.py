"""Running segments in the caller's own process: what SerialMapper and ThreadMapper share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringwalk._core.board import now_ns
from ringwalk.describe import text_of
from ringwalk.errors import MapError, SegmentError, TransferError, WorkerInitError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.history import Ran
from ringwalk.mappers.wire import is_light
from ringwalk.memory.buffers import Inputs
from ringwalk.memory.codec import private
from ringwalk.notebook import format_traceback
from ringwalk.workers.devices import device_for
from ringwalk.workers.job import (
    Column,
    Constant,
    Getter,
    Indexed,
    Job,
    Marker,
    Rows,
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

    column: Constant | Indexed
    inputs: Inputs

    def getter(self, sources: Sources, first: int) -> Getter:
        get, inputs = self.column.getter(sources, first), self.inputs

        def element(task: int) -> Any:
            try:
                return private(get(task), inputs)
            except Exception as error:  # copying runs user code
                raise UnreadableArgument(error) from error

        return element


def local_job(setup: Setup, arguments: Arguments, cycle: int) -> Job:
    def local(column: Column) -> Any:
        if isinstance(column, Rows) or (isinstance(column, Indexed) and is_light(column.values)):
            return column
        if isinstance(column, Constant) and is_light((column.value,)):
            return column
        assert isinstance(column, (Constant, Indexed))  # nothing is remote in this process
        return _Private(column, setup.inputs)

    positional = tuple(local(column) for column in arguments.positional)
    named = {name: local(column) for name, column in arguments.named.items()}
    return Job(0, cycle, positional, named)


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
