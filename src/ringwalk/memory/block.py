"""The walkers of an ensemble in shared memory, as arrays over all of them and as single rows.

Guarantees: an anonymous block has no name that could be left behind; a named one is removed by its
owner's ``close``, exit or collection, and after a kill by the next process that makes a block.
Arrays outlive ``close``.

How the rows lie in memory, and what a map does with them, is told in ``generations``.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn, Self, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from ringwalk.closing import Closing
from ringwalk.errors import ConfigError
from ringwalk.memory.archive import read_columns, write_columns
from ringwalk.memory.fields import Fields, FieldSpec, check_count, check_fields
from ringwalk.memory.generations import Generations, gather
from ringwalk.memory.header import Header
from ringwalk.memory.pinned import pin
from ringwalk.memory.row import Columns, Row
from ringwalk.memory.segment import Segment


class WalkerBlock(Generations, Closing):
    """n walkers with named fields in shared memory, in a front and a back generation.

    A field is a dtype, or ``(shape, dtype)``. New memory is zero.

        block = WalkerBlock(48, positions=((22, 3), "f8"), weight="f8")
        block["weight"] = 1 / 48      # one array over all walkers
        block[3].positions += 0.1     # one walker

    The block can be used by forked children. To use it elsewhere, pass it to a mapper, send its
    ``fileno()``, or give it a name with ``create`` and ``attach`` to that. Both generations are
    allocated at once, so a block takes about twice the size of its walkers.
    """

    __slots__ = ("__weakref__", "_segment", "_unpin")

    _segment: Segment
    _unpin: Callable[[], object] | None

    def __init__(self, n: SupportsIndex, /, **fields: FieldSpec) -> None:
        self._make(check_count(n), check_fields(fields), None)

    @classmethod
    def create(
        cls, n: SupportsIndex, fields: Mapping[str, FieldSpec], *, name: str | None = None
    ) -> Self:
        """Make a block from a mapping of fields, under ``name`` if one is given.

        Any process of the same user can attach to the name until the owner (the process that
        calls this) closes the block or ends.
        """
        block = cls.__new__(cls)
        block._make(check_count(n), check_fields(fields), name)
        return block

    @classmethod
    def attach(cls, name: str) -> Self:
        """Use the block that another process made under ``name``; closing it leaves the name."""
        return cls._adopt(Segment.attach(name), f"the block {name!r}")

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Use the block behind a descriptor that ``fileno()`` gave; it stays the caller's."""
        return cls._adopt(Segment.from_fd(fd), f"descriptor {fd}")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Make an anonymous block from a file that ``save`` wrote."""
        n, columns = read_columns(path)
        fields = {name: (column.shape[1:], column.dtype) for name, column in columns.items()}
        block = cls.create(n, fields)
        for name, column in columns.items():
            block[name] = column
        return block

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the front generation as an npz file with one array a field, whole or not at all."""
        write_columns(path, len(self), self._columns[self._front[0]])

    def fileno(self) -> int:
        """The descriptor of the memory; it belongs to the block."""
        self._front[0]
        return self._segment.fd

    def pin(self) -> None:
        """Register the memory with CUDA as pinned, in this process, until ``close``. Idempotent.

        Copies between rows and a GPU then run at the speed of the bus, and beside other work. This
        starts CUDA in the process that calls it: call it in workers, or have a mapper do so by
        ``WorkerMapper(pin_blocks=True)``, and never in a process that is to fork.

        Raises:
            ConfigError: neither cuda-python nor CuPy is installed.
            PinError: CUDA refused: no GPU, no driver, or not so much memory.
        """
        self._front[0]
        if self._unpin is None:
            self._unpin = pin(self._segment.memory, self)

    def close(self) -> None:
        """Let go of the memory; the owner of a named block removes the name. Idempotent.

        Arrays and rows that were taken from the block stay valid and keep the memory alive.
        """
        if self._unpin is not None:
            self._unpin()
            self._unpin = None
        self._segment.close()
        self._drop_rows()

    @property
    def fields(self) -> Mapping[str, np.dtype[Any]]:
        """Field name to dtype, the field's shape included."""
        return MappingProxyType(self._header.fields)

    @property
    def name(self) -> str | None:
        """What ``attach`` takes; ``None`` for an anonymous block."""
        return self._header.name

    @property
    def nbytes(self) -> int:
        """Bytes of shared memory in use: the header and both generations, padding included."""
        return self._header.total_bytes

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={dtype}" for name, dtype in self.fields.items())
        name = "" if self.name is None else f" named {self.name!r}"
        closed = "" if self._moves else ", closed"
        return f"<WalkerBlock of {len(self)} walkers{name}: {fields}{closed}>"

    @overload
    def __getitem__(self, key: str) -> npt.NDArray[Any]: ...

    @overload
    def __getitem__(self, key: SupportsIndex) -> Row: ...

    def __getitem__(self, key: str | SupportsIndex) -> npt.NDArray[Any] | Row:
        """One field of all walkers, or one walker, of the generation that is the front now.

        What was fetched before a ``swap`` (any successful map of the block ends with one) goes
        on showing the older generation: fetch again after a map.
        """
        columns = self._columns[self._front[0]]
        if isinstance(key, str):
            return _column(columns, key)
        return self._row(columns, self._position(key))

    def __setitem__(self, key: str, values: npt.ArrayLike) -> None:
        """Assign a field of all walkers; broadcasts as numpy does."""
        if not isinstance(key, str):
            raise TypeError(
                f"only whole fields can be assigned, not {key!r}; write block[{key!r}].<field> = "
                "value for a walker, block.resample(indices) to overwrite walkers with others"
            )
        _column(self._columns[self._front[0]], key)[...] = values

    def __iter__(self) -> Iterator[Row]:
        return (self[index] for index in range(len(self)))

    def take(self, indices: npt.ArrayLike) -> Self:
        """Make an anonymous block whose walker k is a copy of walker ``indices[k]``.

        Clones and drops walkers: ``block.take([0, 0, 2])``. Any length will do.
        """
        front, _, _ = self._moves[self._front[0]]
        chosen = self._chosen(indices)
        block = type(self).__new__(type(self))
        block._make(len(chosen), self._header.fields, None)
        copies, _, _ = block._moves[0]
        gather(front, chosen, copies)
        return block

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            "a WalkerBlock cannot be pickled or copied, its memory is shared: pass it to map, "
            "attach to it by name or descriptor, or copy it with block.take(range(len(block)))"
        )

    def _make(self, n: int, fields: Fields, name: str | None) -> None:
        header = Header.of(n, fields, name)
        self._open(Segment.create(header), header)

    @classmethod
    def _adopt(cls, segment: Segment, source: str) -> Self:
        try:
            header = Header.decode(segment.memory, source)
        except ConfigError:
            segment.close()
            raise
        block = cls.__new__(cls)
        block._open(segment, header)
        return block

    def _open(self, segment: Segment, header: Header) -> None:
        self._segment = segment
        self._unpin = None
        self._map_rows(segment.memory, header)

    def _position(self, key: SupportsIndex) -> int:
        try:
            index = operator.index(key)
        except TypeError as error:
            raise TypeError(
                f"block[{key!r}] is neither a field name nor a walker's index; write "
                'block["<field>"][a:b] for part of a field, block.take(indices) for some walkers'
            ) from error
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"walker {index} does not exist, the block has {n}")
        return index % n


def _column(columns: Columns, field: str) -> npt.NDArray[Any]:
    try:
        return columns[field]
    except KeyError:
        raise KeyError(f"no field {field!r}; this block has {', '.join(columns)}") from None
