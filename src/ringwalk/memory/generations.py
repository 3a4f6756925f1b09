"""Two generations of a block's rows, front and back, and what a map does with them.

    header | generation 0: n rows | generation 1: n rows
                 front                  back             swap() exchanges the two names

A map reads front rows and works on back rows. Only when all of it succeeded does ``swap`` make
the back rows the front, by one store that every process sees; until then the walkers are as they
were. A row is one record padded to whole cache lines, so workers on neighbouring walkers do not
disturb each other.

Does not: lock. Different rows may be used by different threads and processes at once, one row by
one of them; ``swap``, ``keep`` and ``resample`` belong to one process, between maps.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ringwalk._core.rows import RowMover
from ringwalk.errors import ClosedError, ConfigError
from ringwalk.memory.header import FRONT_WORD, WRITER_WORD, Header
from ringwalk.memory.row import Columns, Row, row_type


class Generations:
    """The rows of a ``WalkerBlock``; its base, and not made on its own."""

    __slots__ = ("_columns", "_front", "_header", "_moves", "_records", "_row", "_writer")

    _header: Header
    _front: memoryview[int] | _Closed
    _writer: memoryview[int]
    _records: tuple[npt.NDArray[Any], ...]
    _columns: tuple[Columns, ...]
    # By front word: front rows, back rows, back columns. One look-up for the hot path.
    _moves: tuple[tuple[npt.NDArray[Any], npt.NDArray[Any], Columns], ...]
    _row: type[Row]

    def __len__(self) -> int:
        return self._header.n

    def begin(self, index: int) -> Row:
        """Copy a walker's front row onto its back row and return that, for a segment to work on.

        The one copy that a walker's state makes in a map, of the whole record at once.
        """
        front, back, columns = self._moves[self._front[0]]
        back[index] = front[index]
        return self._row(columns, index)

    def beginner(self, first: int = 0) -> Callable[[int], Row]:
        """``begin`` for the generations as they are now: faster, and valid until the next swap.

        Args:
            first: the walker that it counts from.
        """
        front = self._front[0]
        if not len(self):  # numpy gives no buffer of an empty array's memory
            return self.begin
        return RowMover(
            self._records[front],
            self._records[1 - front],
            self._header.record.itemsize,
            self._row,
            self._columns[1 - front],
            first,
        ).begin

    def begun(self, index: int) -> Row:
        """A walker's back row as the segment left it, before the swap makes it the front."""
        _, _, columns = self._moves[self._front[0]]
        return self._row(columns, index)

    @property
    def writer_word(self) -> memoryview[int]:
        """Says whose map writes the block, see ``writer``."""
        self._front[0]
        return self._writer

    def owns(self, row: Row) -> bool:
        """Whether a row is one of this block's."""
        return any(row._columns is columns for columns in self._columns)

    def generations(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Front and back as structured arrays of shape ``(n,)``, with padding, as of now."""
        front = self._front[0]
        return self._records[front], self._records[1 - front]

    def swap(self) -> None:
        """Make the back rows the front, in every process at once.

        Arrays and rows that were fetched before show the old generation from now on, which the
        next map overwrites: fetch them again.
        """
        # One aligned store, so no reader sees a mixture. That the rows are visible before it is
        # up to the mapper, whose task board orders them.
        self._front[0] = 1 - self._front[0]

    def keep(self, indices: npt.ArrayLike) -> None:
        """Copy the back rows of some walkers to the front: those that a failed map did finish."""
        front, back, _ = self._moves[self._front[0]]
        chosen = self._chosen(indices)
        front[chosen] = back[chosen]

    def resample(self, indices: npt.ArrayLike) -> None:
        """Replace walker k by a copy of walker ``indices[k]``, for all walkers, in place.

        Uses the back generation and swaps, so arrays have to be fetched again.
        """
        front, back, _ = self._moves[self._front[0]]
        chosen = self._chosen(indices)
        if len(chosen) != len(self):
            raise ConfigError(
                f"resample needs one index for each of {len(self)} walkers, got {len(chosen)}; "
                "take(indices) makes a block of another length"
            )
        gather(front, chosen, back)
        self.swap()

    def _map_rows(self, memory: mmap.mmap, header: Header) -> None:
        n, record = header.n, header.record
        raw = np.frombuffer(memory, dtype=np.uint8)
        starts = (header.header_bytes, header.header_bytes + header.generation_bytes)
        self._header = header
        self._front = memoryview(memory)[FRONT_WORD].cast("q")
        self._writer = memoryview(memory)[WRITER_WORD].cast("q")
        self._records = tuple(
            raw[start : start + n * record.itemsize].view(record) for start in starts
        )
        self._columns = tuple(
            {name: records[name] for name in header.fields} for records in self._records
        )
        # The same records as single items of opaque bytes, which numpy moves with one memcpy,
        # padding included. Within a record: a bare void would be copied twice, by way of a scalar.
        opaque = np.dtype([("bytes", f"V{record.itemsize}")])
        first, second = (records.view(opaque) for records in self._records)
        self._moves = ((first, second, self._columns[1]), (second, first, self._columns[0]))
        self._row = row_type(tuple(header.fields))

    def _drop_rows(self) -> None:
        self._front = _Closed()
        self._writer = memoryview(b"")  # lets go of the memory
        self._records = self._columns = self._moves = ()

    def _chosen(self, indices: npt.ArrayLike) -> npt.NDArray[np.intp]:
        given = np.asarray(indices)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise ConfigError(
                f"walkers are chosen by a sequence of ints, got {given.dtype} of shape "
                f"{given.shape}; for a mask write numpy.flatnonzero(mask)"
            )
        n = len(self)
        wrong = given[(given < -n) | (given >= n)]
        if wrong.size:
            raise IndexError(f"walker {wrong[0]} does not exist, the block has {n}")
        return given.astype(np.intp)


class _Closed:
    """Stands in for the front word of a closed block; every access reads that word first."""

    def __getitem__(self, item: int) -> NoReturn:
        raise ClosedError("this WalkerBlock is closed; arrays taken from it before are still valid")

    def __setitem__(self, item: int, value: int) -> None:
        self[item]


def gather(rows: npt.NDArray[Any], chosen: npt.NDArray[np.intp], out: npt.NDArray[Any]) -> None:
    """Copy the chosen rows to ``out``; the indices have been checked."""
    # "wrap", because "raise" would gather into a temporary copy of ``out`` first.
    rows.take(chosen, out=out, mode="wrap")
