"""Blocks on disk: one ``.npy`` a field in an uncompressed zip, which ``numpy.load`` reads too.

A member ``__ringwalk__.npy`` with the format version and the number of walkers marks the file as
ours; field names cannot begin with an underscore, so it cannot clash. The file appears whole or not
at all. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ringwalk.errors import ConfigError

VERSION = 1
_MARKER = "__ringwalk__"
_SUFFIX = ".npy"
# The first that takes any field name and any length of header. Left to choose, numpy warns.
_NPY_VERSION = (3, 0)
# numpy limits a header to 10 kB because parsing hostile text is slow; wide records need more.
_MAX_HEADER = 1 << 20


def write_columns(
    path: str | os.PathLike[str], n: int, columns: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Write the columns to ``path`` as a file of ours, replacing what is there in one step."""
    write_arrays(path, {_MARKER: np.array([VERSION, n], dtype=np.int64), **columns})


def write_arrays(path: str | os.PathLike[str], members: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an ``.npz``, replacing what is there in one step."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(partial, "xb") as file:
            _write_zip(file, members)
            file.flush()
            # Without it, a power cut soon after the rename could leave an empty file.
            os.fsync(file.fileno())
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def read_columns(path: str | os.PathLike[str]) -> tuple[int, dict[str, npt.NDArray[Any]]]:
    """The number of walkers and the columns in a file that ``write_columns`` wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                name.removesuffix(_SUFFIX): _read_member(archive, name)
                for name in archive.namelist()
            }
        marker = members.pop(_MARKER)
        version, n = (int(value) for value in marker)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{os.fspath(path)!r} was not written by WalkerBlock.save ({error}); read it with "
            "numpy.load and assign its arrays to the fields of a new block"
        ) from error
    if version != VERSION:
        raise ConfigError(
            f"{os.fspath(path)!r} has the format version {version} and this ringwalk reads "
            f"{VERSION}; load it with the ringwalk that saved it"
        )
    for name, column in members.items():
        if column.shape[:1] != (n,):
            raise ConfigError(
                f"{os.fspath(path)!r} is damaged: the field {name!r} has the shape "
                f"{column.shape} in a block of {n} walkers"
            )
    return n, members


def _write_zip(file: IO[bytes], members: Mapping[str, npt.NDArray[Any]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            # The size is not known beforehand, and a field may exceed the 4 GiB of a plain zip.
            with archive.open(name + _SUFFIX, "w", force_zip64=True) as member:
                npy.write_array(member, array, version=_NPY_VERSION, allow_pickle=False)


def _read_member(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    with archive.open(name) as member:
        return npy.read_array(member, allow_pickle=False, max_header_size=_MAX_HEADER)
