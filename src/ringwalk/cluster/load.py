"""What travels between the caller and a node: a load of batches there, a reply back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ringwalk.cluster.packing import Pack
from ringwalk.cluster.records import Columns
from ringwalk.cluster.site import NodeInfo
from ringwalk.errors import MapError
from ringwalk.workers.failure import Failure

SPEC = "spec"
"""Asks for what a node's pool is made of, in ``Reply.wants``; other wants are broadcasts' keys."""


@dataclass(frozen=True, slots=True)
class Same:
    """One value for all walkers."""

    pack: Pack

    def part(self, span: slice) -> Same:
        return self


@dataclass(frozen=True, slots=True)
class Shared:
    """A broadcast value, by its key."""

    key: str

    def part(self, span: slice) -> Shared:
        return self


@dataclass(frozen=True, slots=True)
class Light:
    """Numbers and short texts, or an array of numbers: one element a walker of the load."""

    values: Any

    def part(self, span: slice) -> Light:
        return Light(self.values[span])


@dataclass(frozen=True, slots=True)
class Heavy:
    """Any other objects, one pack a walker of the load; nobody but the worker opens it."""

    packs: list[Pack]

    def part(self, span: slice) -> Heavy:
        return Heavy(self.packs[span])


@dataclass(frozen=True, slots=True)
class Rows:
    """The load's rows of a walker block of ``n``, as bytes of shape (walkers, record)."""

    n: int
    fields: Mapping[str, np.dtype[Any]]
    records: npt.NDArray[np.uint8]

    def part(self, span: slice) -> Rows:
        return Rows(self.n, self.fields, self.records[span])


Column = Same | Shared | Light | Heavy | Rows


@dataclass(frozen=True, slots=True)
class Load:
    """Walkers [first, first + count) of a map: a batch, or several short ones that travel together.

    A node runs them as one map. With no walkers, it only makes its pool ready.

    Attributes:
        run: names the pool: one mapper, from init to cleanup.
        epoch, number: of the map since ``init``, and of the first batch in it.
        size: walkers of each batch; the last one may have fewer.
        names: of the last ``len(names)`` columns, which go by keyword.
        spec, broadcasts: what the node said that it lacks.
    """

    run: str
    epoch: int = 0
    number: int = 0
    first: int = 0
    count: int = 0
    size: int = 1
    cycle: int = 0
    columns: tuple[Column, ...] = ()
    names: tuple[str, ...] = ()
    spec: Pack | None = None
    broadcasts: Mapping[str, Pack] = field(default_factory=dict)

    @property
    def walkers(self) -> range:
        return range(self.first, self.first + self.count)

    @property
    def batches(self) -> range:
        """The numbers of its batches."""
        return range(self.number, self.number + -(-self.count // self.size))

    def batch(self, number: int) -> Load:
        """One of its batches."""
        start = (number - self.number) * self.size
        stop = min(start + self.size, self.count)
        return replace(
            self,
            number=number,
            first=self.first + start,
            count=stop - start,
            columns=tuple(column.part(slice(start, stop)) for column in self.columns),
        )

    @property
    def shown(self) -> str:
        numbers, walkers = self.batches, self.walkers
        several = f"batches {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else None
        which = several or f"batch {self.number}"
        return f"{which} of map {self.epoch} (walkers {walkers[0]} to {walkers[-1]})"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a node says of a load.

    Attributes:
        number: of the load's first batch.
        wants: what it lacks; then nothing was run, and the load is to be sent again with it.
        failure: why the pool could not be made or is gone.
        results: a list, one element a walker; of those not in ``finished`` None.
        finished: the walkers that have a result; None stands for all.
        returned: walkers whose segment returned its own row.
        rows: of each block of the load, the rows as the segments left them.
        armed, records: of the node's board: how many walkers were handed out, and who ran each,
            from when to when.
        clock_ns: the node's clock when it made the reply.
        seconds: that the load took on the node.
    """

    run: str
    epoch: int
    number: int
    node: NodeInfo
    wants: tuple[str, ...] = ()
    failure: Failure | None = None
    results: Pack | None = None
    finished: tuple[int, ...] | None = None
    errors: tuple[MapError, ...] = ()
    returned: tuple[int, ...] = ()
    rows: tuple[npt.NDArray[np.uint8], ...] = ()
    armed: int = 0
    records: Columns = field(default_factory=dict)
    clock_ns: int = 0
    seconds: float = 0.0
