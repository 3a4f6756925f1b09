"""One walker of a block, seen as an object with one attribute a field.

A row holds no state of its own: it is an index into the block's columns, so reading a field gives
the shared memory itself and assigning one writes there. Rows are made for every segment of every
map, by ``RowMover`` in C; a field's view is made when it is asked for.

A row belongs to the generation from which it was taken. It stays valid, on that generation, after a
swap and after the block was closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from ringwalk._core.rows import RowBase

Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]


class Row(RowBase):
    """One walker: ``row.positions`` is a writable view, ``row.weight = 0.5`` writes through.

    A field with a shape reads as an array view. A field without one reads as a numpy scalar, or as
    a writable record if its dtype is structured. Assignment broadcasts as numpy does and raises
    ``ValueError`` where the shapes do not fit.

    Threads and processes may use different rows at the same time; nothing is locked.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _columns: Columns  # of any type there

    @property
    def index(self) -> int:
        """Which walker of the block this is."""
        return self._index

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in the block's order."""
        return tuple(self._columns)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of walker {self._index}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            "a Row cannot be pickled or copied: it is a view of shared memory, and what was "
            "written to it is in its block already; return row.<field>.copy() to send values"
        )

    if TYPE_CHECKING:
        # The fields of a block are known only when it runs.
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


@lru_cache(maxsize=128)
def row_type(names: tuple[str, ...]) -> type[Row]:
    """The ``Row`` class for blocks with these fields.

    Properties, because they read a field four times as fast as ``__getattr__`` would, and because a
    ``__setattr__`` would slow down the making of every row. The fields are in the class name, so
    that Python's own message for a misspelt attribute lists them.
    """
    properties = {name: _field_property(name) for name in names}
    return type(f"Row({', '.join(names)})", (Row,), {"__slots__": (), **properties})


def _field_property(name: str) -> property:
    def read(row: Row) -> Any:
        return row._columns[name][row._index]

    def write(row: Row, value: npt.ArrayLike | np.void) -> None:
        # The ellipsis makes numpy broadcast also where the field has no shape; without it, a
        # one-element array would be accepted there with a DeprecationWarning.
        row._columns[name][row._index, ...] = value

    return property(read, write, doc=f"Field {name!r} of this walker.")
