"""Job: what one map asks of the workers, and how a worker turns it into calls.

A map's arguments are columns, one element a walker. How a column's elements reach the segment is
the column's own business: the same for all, indexed in a sequence, a row of a block, or part of
the task's own payload. None of these classes has slots, so that a job can travel flat (see
``_core.encoder``), for a tenth of the time that pickle takes to write and read it. Nobody changes
one: a frozen dataclass takes three times as long to make, which a map of one walker notices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ringwalk._core.chain import Chain
from ringwalk.describe import text_of
from ringwalk.memory import Row, WalkerBlock
from ringwalk.workers.setup import Setup
from ringwalk.workers.streams import seed_globals, stream
from ringwalk.workers.worker import Worker

Getter = Callable[[int], Any]


class UnreadableArgument(Exception):
    """A task's own arguments could not be unpickled; the segment did not run."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(text_of(reason))
        self.reason = reason


class Sources(Protocol):
    """What a worker looks elements up in."""

    def block(self, number: int) -> WalkerBlock: ...

    def element(self, task: int, position: int, count: int) -> Any: ...

    def repeated(self, place: int, length: int) -> Getter: ...


class NoSources:
    """For a process that has all columns at hand: the caller's own, and those forked from it."""

    def block(self, number: int) -> WalkerBlock:
        raise AssertionError(f"block {number} is at hand")

    def element(self, task: int, position: int, count: int) -> Any:
        raise AssertionError(f"the arguments of task {task} are at hand")

    def repeated(self, place: int, length: int) -> Getter:
        raise AssertionError("a value that is the same for all is at hand")


@dataclass
class Constant:
    """The same value for every walker; from another process, one that nobody can change."""

    value: Any

    def getter(self, sources: Sources, first: int) -> Getter:
        value = self.value
        return lambda task: value


@dataclass
class Repeated:
    """The same value for every walker, in a payload of its own: each walker reads it anew."""

    place: int
    length: int

    def getter(self, sources: Sources, first: int) -> Getter:
        return sources.repeated(self.place, self.length)


@dataclass
class Indexed:
    """A sequence that the worker has whole."""

    values: Any

    def getter(self, sources: Sources, first: int) -> Getter:
        get: Getter = self.values.__getitem__
        return get if first == 0 else lambda task: get(first + task)


@dataclass
class Piece:
    """A sequence that the worker has whole, of the walkers from ``start`` on."""

    values: Any
    start: int

    def getter(self, sources: Sources, first: int) -> Getter:
        get: Getter = self.values.__getitem__
        skipped = first - self.start
        return get if skipped == 0 else lambda task: get(skipped + task)


@dataclass
class Rows:
    """Rows of a block that this process has open."""

    block: WalkerBlock

    def getter(self, sources: Sources, first: int) -> Getter:
        return self.block.beginner(first)


@dataclass
class RemoteRows:
    """Rows of a block that the worker opens by its number."""

    number: int

    def getter(self, sources: Sources, first: int) -> Getter:
        return Rows(sources.block(self.number)).getter(sources, first)


@dataclass
class Carried:
    """Element ``position`` of the ``count`` that travel in the task's own payload."""

    position: int
    count: int

    def getter(self, sources: Sources, first: int) -> Getter:
        element, position, count = sources.element, self.position, self.count
        return lambda task: element(task, position, count)


Column = Constant | Repeated | Indexed | Piece | Rows | RemoteRows | Carried


@dataclass
class Returned:
    """Stands for a row that the segment returned: the caller gets its own row of that block."""

    column: int


@dataclass
class Renewed:
    """A segment function that takes the place of the one that the workers started with.

    Attributes:
        number: grows with every other function; a worker that has this one need not read it.
        place, length: its pickle in the parent's heap.
    """

    number: int
    place: int
    length: int


@dataclass
class Job:
    """One map, or one wave of a long one.

    Attributes:
        first: walker index of task 0.
        cycle: number of the map since ``init``; selects the random streams.
        blocks: numbers of the blocks that are alive; a worker closes the others.
        renewed: the segment function, if it is not the one that the workers started with.
    """

    first: int
    cycle: int
    positional: tuple[Column, ...]
    named: Mapping[str, Column] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    renewed: Renewed | None = None


def make_call(setup: Setup, worker: Worker, job: Job, sources: Sources) -> Getter:
    """A function that runs the segment of a task and returns its result."""
    func = setup.segment_func
    offered = setup.offered - job.named.keys()
    constants = {
        name: column.value for name, column in job.named.items() if isinstance(column, Constant)
    }
    if "device" in offered:
        constants["device"] = worker.device
    if "context" in offered:
        constants["context"] = worker.context
    getters = [column.getter(sources, job.first) for column in job.positional]
    named = {
        name: column.getter(sources, job.first)
        for name, column in job.named.items()
        if not isinstance(column, Constant)
    }
    if "rng" in offered or setup.seed is not None:
        return _with_streams(setup, worker, job, (getters, named, constants), "rng" in offered)
    if type(worker).run_task is not Worker.run_task:
        return _through_worker(worker, func, getters, named, constants)
    if named:
        return lambda task: func(
            *[get(task) for get in getters],
            **{name: get(task) for name, get in named.items()},
            **constants,
        )
    if len(getters) == 1 and not constants:
        return Chain(func, *getters)
    return lambda task: func(*[get(task) for get in getters], **constants)


Parts = tuple[list[Getter], dict[str, Getter], dict[str, Any]]


def _through_worker(
    worker: Worker,
    func: Callable[..., Any],
    getters: list[Getter],
    named: dict[str, Getter],
    constants: dict[str, Any],
) -> Getter:
    return lambda task: worker.run_task(
        func,
        [get(task) for get in getters],
        {**{name: get(task) for name, get in named.items()}, **constants},
    )


def _with_streams(setup: Setup, worker: Worker, job: Job, parts: Parts, takes_rng: bool) -> Getter:
    getters, named, constants = parts
    func = setup.segment_func

    def call(task: int) -> Any:
        sequence = stream(setup.seed, job.cycle, job.first + task)
        if setup.seed is not None:
            seed_globals(sequence)
        args = [get(task) for get in getters]
        kwargs = {**{name: get(task) for name, get in named.items()}, **constants}
        if takes_rng:
            kwargs["rng"] = np.random.Generator(np.random.PCG64(sequence))
        return worker.run_task(func, args, kwargs)

    return call


Marker = Callable[[Any], Any]


def make_marker(job: Job, sources: Sources) -> Marker:
    """A function that replaces a row of a mapped block by a mark: its values are there already."""
    blocks = {
        position: column.block if isinstance(column, Rows) else sources.block(column.number)
        for position, column in enumerate((*job.positional, *job.named.values()))
        if isinstance(column, (Rows, RemoteRows))
    }

    def mark(result: Any) -> Any:
        if isinstance(result, Row):
            for position, block in blocks.items():
                if block.owns(result):
                    return Returned(position)
        return result

    return mark
