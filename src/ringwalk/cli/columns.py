"""The rows of a data file as columns, ready to be mapped over. Nothing is ever unpickled."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ringwalk.errors import ConfigError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """Arrays of equal length, one element a row.

    Attributes:
        rows: their length.
        positional: the one column of a plain ``.npy``, which has no name.
        named: the others.
    """

    rows: int
    positional: tuple[Array, ...] = ()
    named: dict[str, Array] = field(default_factory=dict)


def read_columns(path: Path) -> Columns:
    """Read a file by its suffix.

    Raises:
        ConfigError: it cannot be read, has another suffix, or columns of unequal length.
    """
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise ConfigError(f"{path} is none of {', '.join(_READERS)}; convert it to one of them")
    try:
        columns = read(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if columns.rows == 0:
        raise ConfigError(f"{path} has no rows")
    return columns


def _read_npz(path: Path) -> Columns:
    with np.load(path, allow_pickle=False) as archive:
        # WalkerBlock.save marks its files by a member that is no field.
        return _named({name: archive[name] for name in archive if not name.startswith("__")})


def _read_npy(path: Path) -> Columns:
    array = np.load(path, allow_pickle=False)
    if array.ndim == 0:
        raise ValueError("it holds a single value, which has no rows")
    if array.dtype.names:
        return _named({name: array[name] for name in array.dtype.names})
    return Columns(len(array), positional=(array,))


def _read_csv(path: Path) -> Columns:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *lines = [line for line in csv.reader(file) if line] or [[]]
    for number, line in enumerate(lines):
        if len(line) != len(header):
            raise ValueError(f"row {number} has {len(line)} fields, the header {len(header)}")
    texts = zip(*lines, strict=True) if lines else ((),) * len(header)
    return _named(dict(zip(map(str.strip, header), map(_parsed, texts), strict=True)))


def _parsed(texts: tuple[str, ...]) -> Array:
    """Whole numbers, else numbers, else texts."""
    for kind in (np.int64, np.float64):
        try:
            return np.array(list(map(int if kind is np.int64 else float, texts)), dtype=kind)
        except (ValueError, OverflowError):
            continue
    return np.array(texts)


def _named(columns: dict[str, Array]) -> Columns:
    lengths = {name: len(np.atleast_1d(column)) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or any(column.ndim == 0 for column in columns.values()):
        raise ValueError(f"its columns differ in length: {lengths}")
    return Columns(min(lengths.values(), default=0), named=columns)


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_csv,
}
