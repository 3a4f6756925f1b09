"""From a map's arguments to what persistent workers can read: the job header and the payloads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringwalk._core.encoder import are_light
from ringwalk.describe import text_of
from ringwalk.errors import TransferError
from ringwalk.mappers.arguments import Arguments
from ringwalk.memory.codec import Codec, Encoded
from ringwalk.memory.repeated import is_immutable
from ringwalk.workers.job import (
    Carried,
    Column,
    Constant,
    Indexed,
    Job,
    RemoteRows,
    Repeated,
    Rows,
)
from ringwalk.workers.pool import Pool

# Longer strings are better sent to the one worker that needs them.
_LIGHT_STRING = 64
# Payloads of so many tasks, or so many bytes with their arrays, are written and then pushed
# together: workers start early, while we copy what comes next, and waking them is rare.
_CHUNK_TASKS = 64
_CHUNK_BYTES = 1 << 18

Clones = dict[int, tuple[Any, bytes | None]]
"""Objects that were sent, by id, and their payloads. Owns the objects, or an id may come again."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tasks whose payloads lie one after another in one piece."""

    first: int
    lengths: list[int]
    data: bytes
    outside: dict[int, int]
    """Task -> bytes of its arrays that were written beside its payload."""


def refusal(walker: int, error: Exception) -> TransferError:
    """The error of a walker whose arguments could not be written."""
    refused = TransferError(
        f"an argument of walker {walker} cannot be pickled: {text_of(error)}. TaskMapper "
        "takes any object; for WorkerMapper, make it picklable or keep it out of the arguments",
        walker=walker,
    )
    refused.__cause__ = error
    return refused


def is_light(values: Any) -> bool:
    """Whether a sequence is cheaper to send whole, once a worker, than element by element."""
    if isinstance(values, np.ndarray):
        return not values.dtype.hasobject
    if isinstance(values, range):
        return True
    return are_light(values, _LIGHT_STRING)


class Wire:
    """Splits columns into those that go in the header and those that each task carries."""

    def __init__(self, pool: Pool, arguments: Arguments) -> None:
        self._pool = pool
        # What is written for one task alone that task may have, if it wants a copy.
        self.private = pool.setup.inputs == "copy"
        self._columns: list[Column] = [*arguments.positional, *arguments.named.values()]
        carried = [
            column.values
            for column in self._columns
            if isinstance(column, Indexed) and not is_light(column.values)
        ]
        self.carried = carried
        position = itertools.count()
        self._columns = [self._sent(column, position, len(carried)) for column in self._columns]
        self._names = tuple(arguments.named)

    def _sent(self, column: Column, position: Iterator[int], count: int) -> Column:
        if isinstance(column, Rows):
            return RemoteRows(self._pool.blocks.number_of(column.block))
        if isinstance(column, Indexed) and any(column.values is values for values in self.carried):
            return Carried(next(position), count)
        return column

    def job(self, first: int, cycle: int, held: list[int]) -> Job:
        """What all workers have to know. ``held`` gets the blocks that values of it lie in.

        Raises what pickling raises, and HeapFullError.
        """
        columns = [self._shared(column, held) for column in self._columns]
        split = len(columns) - len(self._names)
        named = dict(zip(self._names, columns[split:], strict=True)) if self._names else {}
        return Job(
            first,
            cycle,
            tuple(columns[:split]),
            named,
            self._pool.blocks.living(),
            self._pool.renewed,
        )

    def _shared(self, column: Column, held: list[int]) -> Column:
        if not isinstance(column, Constant) or is_immutable(column.value):
            return column
        codec = self._pool.space.codec
        payload, blocks = codec.dumps_repeated(column.value, self._pool.setup.inputs)
        held.extend(blocks)
        return Repeated(codec.own.place(codec.own.put(payload, held)), len(payload))

    def _values(self, walker: int) -> tuple[Any, ...]:
        return tuple([column[walker] for column in self.carried])

    def again(self, codec: Codec, walker: int) -> Encoded:
        """The payload of a task whose first attempt may have written in it.

        Raises what pickling raises, and HeapFullError.
        """
        return codec.dumps(self._values(walker), private=True)

    def _single(self, codec: Codec, walker: int, clones: Clones) -> Encoded:
        """One payload, and the blocks that were made for it now. Raises as ``again`` does.

        A clone, the same object for another walker, is sent once; or twice, if the first walker
        has its arrays for itself (then ``clones`` knows no payload of it).
        """
        values = self._values(walker)
        if len(values) > 1:
            return codec.dumps(values, private=self.private)
        value = values[0]
        _, known = clones.get(id(value), (value, None))
        if known is not None:
            return known, ()
        private = self.private and id(value) not in clones
        payload, made = codec.dumps(values, private=private)
        clones[id(value)] = value, None if private and made else payload
        return payload, made

    def chunks(
        self, codec: Codec, first: int, count: int, held: list[int]
    ) -> Iterator[Chunk | tuple[int, Exception]]:
        """Payloads of [first, first + count); a walker and its error where one cannot be made.

        ``held`` gets the blocks that are made for them, also those of a chunk that never comes.
        """
        clones: Clones = {}
        task = 0
        while task < count:
            begin, lengths, parts, size = task, list[int](), list[bytes](), 0
            outside: dict[int, int] = {}
            end = min(begin + _CHUNK_TASKS, count)
            while task < end and size < _CHUNK_BYTES:
                room = _CHUNK_BYTES - size
                payload = codec.encoder.extend(
                    self.carried, first + task, first + end, room, lengths, clones
                )
                if not payload:
                    moved = codec.moved
                    try:
                        payload, made = self._single(codec, first + task, clones)
                    except Exception as error:  # pickling runs user code
                        yield first + task, error
                        return
                    if made:
                        held.extend(made)
                        outside[task] = codec.moved - moved
                        size += outside[task]
                    lengths.append(len(payload))
                task = begin + len(lengths)
                parts.append(payload)
                size += len(payload)
            yield Chunk(begin, lengths, b"".join(parts), outside)
