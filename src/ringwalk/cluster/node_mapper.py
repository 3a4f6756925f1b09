"""The mapper of a node: a WorkerMapper that runs pieces of a larger map.

Walkers keep the numbers that they have in the whole map, so their random streams, their rows'
indices and their errors are those of one machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ringwalk.cluster import load as wire
from ringwalk.cluster.broadcast import Kept
from ringwalk.cluster.load import Load
from ringwalk.cluster.packing import Sealed
from ringwalk.cluster.site import NodeInfo, look_around
from ringwalk.mappers import WorkerMapper
from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.transaction import Transaction
from ringwalk.memory import WalkerBlock
from ringwalk.workers.job import Column, Constant, Indexed, Piece, Rows


class _Offset:
    """A load's elements, looked up by the number of their walker in the whole map."""

    def __init__(self, first: int, values: Sequence[Any]) -> None:
        self.first = first
        self.values = values

    def __getitem__(self, walker: int) -> Any:
        return self.values[walker - self.first]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values[:1])  # packs are not light, and one of them tells


class NodeMapper(WorkerMapper):
    """A WorkerMapper that runs pieces of a larger map, and keeps what stays between them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._blocks: dict[int, WalkerBlock] = {}
        self._kept: dict[str, Kept] = {}

    def describe(self) -> NodeInfo:
        return look_around(
            self.num_workers or 0, [device.visible for device in self._devices or ()]
        )

    def missing(self, load: Load) -> tuple[str, ...]:
        """Take in the broadcasts that came along; keys of those that the load needs still."""
        for key, pack in load.broadcasts.items():
            if key not in self._kept:
                self._kept[key] = Kept(key, pack)
        needed = (column.key for column in load.columns if isinstance(column, wire.Shared))
        return tuple(key for key in needed if key not in self._kept)

    def run(self, load: Load) -> Transaction:
        """Run the load's segments to their end."""
        with self._mapping() as setup, self._room.inside(self._end):
            self._check_open(setup)
            pool = self._running_pool()
            columns = [self._column(load, k, each) for k, each in enumerate(load.columns)]
            split = len(columns) - len(load.names)
            named = dict(zip(load.names, columns[split:], strict=True))
            end = load.first + load.count
            arguments = Arguments(end, tuple(columns[:split]), named, ())
            wave = Transaction(
                pool,
                arguments,
                self._options,
                first=load.first,
                count=load.count,
                cycle=load.cycle,
            )
            try:
                for _ in self._run_wave(setup, wave, end, [], each=False):
                    pass
            except BaseException:
                self._give_up(pool, wave)
                raise
            return wave

    def _column(self, load: Load, position: int, column: wire.Column) -> Column:
        match column:
            case wire.Same(pack):
                return Constant(Sealed(pack))
            case wire.Shared(key):
                return Constant(self._kept[key])
            case wire.Light(values):
                return Piece(values, load.first)
            case wire.Heavy(packs):
                return Indexed(_Offset(load.first, [Sealed(pack) for pack in packs]))
            case wire.Rows(n, fields, records):
                block = self._block(position, n, fields)
                front, _ = block.generations()
                _as_bytes(front)[load.first : load.first + load.count] = records
                return Rows(block)

    def _block(self, position: int, n: int, fields: Mapping[str, np.dtype[Any]]) -> WalkerBlock:
        """Room for a block of the caller's: all its rows, so that each keeps its number."""
        block = self._blocks.get(position)
        if block is None or len(block) != n or block.fields != fields:
            if block is not None:
                block.close()
            block = self._blocks[position] = WalkerBlock.create(n, fields)
        return block

    def worked_rows(self, load: Load) -> Iterator[npt.NDArray[np.uint8]]:
        """What the segments made of the load's rows."""
        for position, column in enumerate(load.columns):
            if isinstance(column, wire.Rows):
                _, back = self._blocks[position].generations()
                yield _as_bytes(back)[load.first : load.first + load.count]

    def cleanup(self) -> None:
        super().cleanup()
        for block in self._blocks.values():
            block.close()
        for kept in self._kept.values():
            kept.close()
        self._blocks, self._kept = {}, {}


def _as_bytes(records: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
