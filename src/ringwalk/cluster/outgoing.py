"""A map's arguments, cut into the columns of batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from ringwalk.cluster import load as wire
from ringwalk.cluster.broadcast import Broadcast
from ringwalk.cluster.cutter import MOST_BYTES
from ringwalk.cluster.packing import Pack
from ringwalk.describe import text_of
from ringwalk.errors import ConfigError, TransferError
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.wire import is_light
from ringwalk.workers.job import Column, Constant, Indexed, Rows


class Outgoing:
    """Cuts batches from the front of a map.

    Attributes:
        next: the first walker that no batch has taken.
        broadcasts: key -> the value that nodes may ask for.
    """

    def __init__(self, arguments: Arguments) -> None:
        self.next = 0
        self.count = arguments.count
        self.names = tuple(arguments.named)
        self.broadcasts: dict[str, Broadcast] = {}
        self._columns = [
            self._prepared(column) for column in (*arguments.positional, *arguments.named.values())
        ]

    def _prepared(self, column: Column) -> wire.Same | wire.Shared | Rows | Indexed | _Packed:
        if isinstance(column, Constant):
            if isinstance(column.value, Broadcast):
                self.broadcasts[column.value.key] = column.value
                return wire.Shared(column.value.key)
            try:
                return wire.Same(Pack.of(column.value))
            except Exception as error:  # pickling runs user code
                raise ConfigError(
                    "an argument that is the same for all walkers cannot be pickled: "
                    f"{text_of(error)}. Make it picklable, or have the segment function refer to "
                    "what is on the nodes"
                ) from error
        if isinstance(column, Rows):
            return column
        assert isinstance(column, Indexed)  # the others exist on nodes only
        return column if is_light(column.values) else _Packed(column.values)

    def cut(self, walkers: int) -> tuple[int, tuple[wire.Column, ...]]:
        """Take up to ``walkers`` of them, fewer where they are large; how many, and their columns.

        Raises TransferError for the first one that cannot be pickled; then nothing is taken.
        """
        first = self.next
        packed = [column for column in self._columns if isinstance(column, _Packed)]
        row = sum(c.block.generations()[0].itemsize for c in self._columns if isinstance(c, Rows))
        end = first + max(1, min(walkers, MOST_BYTES // max(1, row)))
        if packed:
            size = 0
            for walker in range(first, end):
                size += row + sum(column.take(walker) for column in packed)
                if size >= MOST_BYTES:
                    end = walker + 1
                    break
        columns = tuple(_cut(column, first, end) for column in self._columns)
        self.next = end
        return end - first, columns


class _Packed:
    """Elements that are pickled one by one, when their batch is cut."""

    def __init__(self, values: Any) -> None:
        self._values = values
        self._packs: list[Pack] = []
        # One object for many walkers is pickled once. Owns the objects, or an id may come again.
        self._known: dict[int, tuple[Any, Pack]] = {}

    def take(self, walker: int) -> int:
        """Pickle the walker's element for the next batch; its bytes."""
        value = self._values[walker]
        _, pack = self._known.get(id(value), (value, None))
        if pack is None:
            try:
                pack = Pack.of(value)
            except Exception as error:  # pickling runs user code
                raise TransferError(
                    f"an argument of walker {walker} cannot be pickled: {text_of(error)}. "
                    "Make it picklable, or keep it out of the arguments",
                    walker=walker,
                ) from error
            self._known[id(value)] = value, pack
        self._packs.append(pack)
        return pack.nbytes

    def given(self) -> wire.Heavy:
        heavy = wire.Heavy(self._packs)
        self._packs, self._known = [], {}
        return heavy


def _cut(
    column: wire.Same | wire.Shared | Rows | Indexed | _Packed, first: int, end: int
) -> wire.Column:
    if isinstance(column, _Packed):
        return column.given()
    if isinstance(column, Indexed):
        return wire.Light(column.values[first:end])
    if isinstance(column, Rows):
        front, _ = column.block.generations()
        # A copy: an engine may send late, and hold what it sent for longer than the block lives.
        records = front[first:end].copy().view(np.uint8).reshape(end - first, front.itemsize)
        return wire.Rows(len(column.block), dict(column.block.fields), records)
    return column
