"""A structured array in shared memory that grows while other processes have it mapped.

    window   |<------------------- address space, reserved once ------------------->|
    file     | head | row 0 | row 1 | ... | row n-1 | room to the capacity |
                                          ^ len                            ^ grows here

Every process maps the same file through a window that is far larger than the file. Growing makes
the file longer and then rewrites the number of rows in its head: no mapping moves, no byte is
copied, arrays taken before stay valid, and an attached process sees the new length at its next
look. The file is memory without a name, or one on disk, which is a valid ``.npy`` at any instant.

Guarantees: new rows are zero; space is allocated before a row is handed out, so that a full disk
or memory is an error here and no SIGBUS later; one process, the owner, makes rows.

Does not: shrink, lock rows, or survive somebody else's cutting the file short.
"""

from __future__ import annotations

import fcntl
import os
import resource
import weakref
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.window import Window
from ringwalk.closing import Closing
from ringwalk.errors import ClosedError, ConfigError, ForkedError, HeapFullError
from ringwalk.memory import npy
from ringwalk.memory.claim import Claim

# Address space costs nothing until it is touched; a limit (ulimit -v) is shared with the rest.
_MOST_ADDRESS_SPACE = 1 << 38
# What append allocates at once, at most: a larger step would let its caller wait.
_MOST_STEP = 4 << 20


class Table(Closing):
    """Rows of one structured dtype.

    Args:
        record: the dtype of a row.
        capacity: rows to allocate room for at once; more are allocated when needed.
        path: a ``.npy`` file to be, which other programs may map; None for nameless memory.
        replace: whether ``path`` may exist, and is then replaced in one step. Processes that have
            the old file mapped keep it.

    Raises:
        ConfigError: the record or the capacity cannot be, or the file exists.
        BusyError: ``path`` has an owner; the message says who.
        HeapFullError: there is no memory or disk space for the capacity.
    """

    def __init__(
        self,
        record: np.dtype[Any],
        capacity: int,
        *,
        path: str | os.PathLike[str] | None = None,
        replace: bool = False,
    ) -> None:
        if record.hasobject or not record.names:
            raise ConfigError(f"a table cannot hold {record!r}: give named fields without objects")
        if not 0 <= capacity <= npy.MOST_ROWS:
            raise ConfigError(f"capacity is {capacity}; give 0 to {npy.MOST_ROWS:,} rows")
        self.path = None if path is None else Path(os.path.abspath(path))
        self._claim = None if self.path is None else Claim(self.path)
        head = npy.encode(record, 0)
        try:
            if self.path is not None and not replace and self.path.exists():
                raise ConfigError(
                    f"{self.path} exists; move it away, attach to it with {type(self).__name__}"
                    ".attach, or pass replace=True"
                )
            fd = _new_file(self.path)
            try:
                _allocate(fd, 0, len(head) + capacity * record.itemsize)
                os.pwrite(fd, head, 0)
                if self.path is not None:
                    os.replace(_unfinished(self.path), self.path)
                self._map(fd, record, len(head))
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            if self._claim is not None:
                self._claim.release()
            raise
        self.capacity = capacity
        """Rows that have room; more than ``len``, or as many."""
        self._owner: int | None = owner_token()

    @classmethod
    def attach(cls, path: str | os.PathLike[str]) -> Self:
        """Use the table in a file that another process owns, or owned; it cannot be grown here."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError(f"cannot attach to {os.fspath(path)!r}: {error.strerror}") from error
        table = cls._adopt(fd, f"{os.fspath(path)!r}")
        table.path = Path(os.path.abspath(path))
        return table

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """Use the table behind a descriptor that ``fileno()`` gave; it stays the caller's."""
        return cls._adopt(os.dup(fd), f"descriptor {fd}")

    @classmethod
    def _adopt(cls, fd: int, source: str) -> Self:
        table = cls.__new__(cls)
        try:
            record, offset = npy.decode(fd, source)
            table._map(fd, record, offset)
        except BaseException:
            os.close(fd)
            raise
        table.path = table._claim = table._owner = None
        table.capacity = (os.fstat(fd).st_size - offset) // record.itemsize
        return table

    def _map(self, fd: int, record: np.dtype[Any], offset: int) -> None:
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        space = _MOST_ADDRESS_SPACE if limit == resource.RLIM_INFINITY else limit // 8
        most = min(space, offset + npy.MOST_ROWS * record.itemsize)
        window = Window(fd, max(most, os.fstat(fd).st_size))
        self.record = record
        self._memory: memoryview | None = memoryview(window)
        self._offset = offset
        self._most = (window.size - offset) // record.itemsize
        # One aligned word: numpy stores and loads it in one piece.
        self._digits = np.frombuffer(self._memory, "u8", 1, npy.DIGITS.start)
        self._rows: npt.NDArray[Any] = np.frombuffer(self._memory, record, 0, offset)
        self._fd = fd
        self._finalizer = weakref.finalize(self, os.close, fd)

    def __len__(self) -> int:
        return int(self._digits.tobytes())

    @property
    def rows(self) -> npt.NDArray[Any]:
        """All rows, as an array on the shared memory. Valid for ever; ask again after a growth."""
        if self._memory is None:
            raise ClosedError("this table was closed; arrays that were taken before stay valid")
        count = len(self)
        if len(self._rows) != count:
            self._rows = np.frombuffer(self._memory, self.record, count, self._offset)
        return self._rows

    def __getitem__(self, key: Any) -> Any:
        """``table["u"]`` is a column, ``table[3]`` a row; both write through."""
        return self.rows[key]

    def __setitem__(self, key: Any, value: npt.ArrayLike) -> None:
        self.rows[key] = value

    def extend(self, count: int = 1) -> int:
        """Make ``count`` rows of zeros; the number of the first. Raises HeapFullError."""
        self._check_owner()
        first = len(self)
        wanted = first + count
        if wanted > self.capacity:
            step = min(self.capacity, _MOST_STEP // self.record.itemsize)
            self.resize(max(wanted, min(self.capacity + step, self._most)))
        self._digits[0] = np.frombuffer(npy.digits(wanted), "u8")[0]
        return first

    def append(self, **values: npt.ArrayLike) -> int:
        """Make a row with these values, zero elsewhere; its number."""
        unknown = values.keys() - set(self.record.names or ())
        if unknown:
            raise ConfigError(
                f"no such field: {', '.join(sorted(unknown))}; the table has "
                f"{', '.join(self.record.names or ())}"
            )
        number = self.extend()
        row = self.rows[number]
        for name, value in values.items():
            row[name] = value
        return number

    def resize(self, capacity: int) -> None:
        """Have room for ``capacity`` rows. Nothing moves; a table never shrinks.

        Raises:
            ConfigError: less than now.
            HeapFullError: no room; the table is as it was.
        """
        self._check_owner()
        if capacity < self.capacity:
            raise ConfigError(
                f"a table cannot shrink from {self.capacity} rows to {capacity}: other processes "
                "may use them; copy the rows that you want to keep into a new table"
            )
        if capacity > self._most:
            raise HeapFullError(
                f"a table of {self.record.itemsize}-byte rows ends at {self._most:,} rows, "
                f"{capacity:,} were asked for; use several tables, or raise ulimit -v"
            )
        size = self.record.itemsize
        start = self._offset + self.capacity * size
        _allocate(self._fd, start, (capacity - self.capacity) * size)
        self.capacity = capacity

    def fileno(self) -> int:
        """The descriptor of the memory; it belongs to the table."""
        self._check_open()
        return self._fd

    def close(self) -> None:
        """Let go of the memory, and as its owner of the file, which stays. Idempotent.

        Arrays that were taken from the table stay valid and keep the memory alive.
        """
        self._finalizer()
        self._memory = None
        if self._claim is not None:
            self._claim.release()

    def _check_open(self) -> None:
        if self._memory is None:
            raise ClosedError("this table was closed; arrays that were taken before stay valid")

    def _check_owner(self) -> None:
        self._check_open()
        if self._owner is None or not is_owner(self._owner):
            raise ForkedError(
                "only the process that made a table can make rows in it; this one may read and "
                "write those that exist"
            )


def _new_file(path: Path | None) -> int:
    if path is None:
        fd = os.memfd_create("ringwalk-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return fd
    # Whoever made it before us and was killed had the claim that is ours now.
    return os.open(_unfinished(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _allocate(fd: int, start: int, length: int) -> None:
    if length == 0:
        return
    try:
        os.posix_fallocate(fd, start, length)
    except (OSError, OverflowError) as error:
        raise HeapFullError(
            f"no room for {length:,} more bytes of a table ({error}); free memory or disk space, "
            "or use fewer or smaller fields"
        ) from error
