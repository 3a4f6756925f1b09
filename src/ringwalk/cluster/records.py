"""Who ran each walker, and when, on the way to the caller.

A task's record has 64 bytes, of which most are zero or the same for all tasks of a load. Each
column travels as its least value and what the others have more, in the narrowest type for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ringwalk.mappers.history import TASK

_TOLD = ("state", "input_length", "result_length", "result_kind", "start_ns", "end_ns")

Columns = Mapping[str, tuple[int, npt.NDArray[np.unsignedinteger[Any]]]]


def narrowed(records: npt.NDArray[Any]) -> Columns:
    """The columns of a board's records, of dtype ``TASK``, that tell something elsewhere."""
    if not len(records):
        return {}
    return {name: _narrowed(records[name]) for name in _TOLD}


def _narrowed(column: npt.NDArray[Any]) -> tuple[int, npt.NDArray[np.unsignedinteger[Any]]]:
    least = column.min()
    more = column - least
    most = more.max()
    if not most:
        more = more[:1]
    return int(least), more.astype(np.min_scalar_type(int(most)))


def widened(count: int, columns: Columns) -> npt.NDArray[Any]:
    """``count`` records again, with zeros where nothing was told."""
    records = np.zeros(count, TASK)
    for name, (least, more) in columns.items():
        records[name] = more
        records[name] += least
    return records
