"""The head of a ``.npy`` file whose number of rows can be rewritten in place, by one store.

    0       8      12                32         40
    | magic | hlen | {'shape':  (    |  digits  | ,), 'fortran_order': False, 'descr': [...]} pad |

A reader, numpy or one of our processes, sees either the old number or the new one, never a mix:
the eight digits are one aligned word. So a table has at most 99,999,999 rows.

Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 3.0.
"""

from __future__ import annotations

import ast
import mmap
import os
import struct
from typing import Any

import numpy as np
from numpy.lib import format as npy

from ringwalk.errors import ConfigError

DIGITS = slice(32, 40)
MOST_ROWS = 10**8 - 1

_START = struct.Struct("<6sBBI")
_MAGIC = b"\x93NUMPY"
_VERSION = (3, 0)  # the first that takes any field name and any length of header
_SHAPE = "{'shape':".ljust(DIGITS.start - _START.size - 1) + "("


def encode(record: np.dtype[Any], rows: int) -> bytes:
    """The head for ``rows`` records, padded to whole pages, so that the records are aligned."""
    descr = npy.dtype_to_descr(record)
    text = f"{_SHAPE}{digits(rows).decode()},), 'fortran_order': False, 'descr': {descr!r}}}"
    length = _START.size + len(text.encode()) + 1
    padding = -length % mmap.PAGESIZE
    body = text.encode() + b" " * padding + b"\n"
    return _START.pack(_MAGIC, *_VERSION, len(body)) + body


def digits(rows: int) -> bytes:
    """The word that stands for a number of rows."""
    return b"%8d" % rows


def decode(fd: int, source: str) -> tuple[np.dtype[Any], int]:
    """The record and the size in bytes of the head of an open file; ``source`` names it."""
    start = os.pread(fd, _START.size, 0)
    if len(start) < _START.size or not start.startswith(_MAGIC):
        raise ConfigError(f"{source} is not a run table: it does not begin as a .npy file does")
    _, *version, length = _START.unpack(start)
    text = os.pread(fd, length, _START.size).decode(errors="replace")
    if tuple(version) != _VERSION or not text.startswith(_SHAPE):
        raise ConfigError(
            f"{source} is a .npy file, but not a run table's; read it with numpy.load, and make a "
            "table under another name"
        )
    try:
        record = np.dtype(npy.descr_to_dtype(ast.literal_eval(text.strip())["descr"]))
    except (ValueError, TypeError, SyntaxError, KeyError) as error:
        raise ConfigError(f"the header of {source} is damaged: {error}") from error
    return record, _START.size + length
