"""RunTable: a growing table with one row a run of a study, whoever runs it.

A row has the fields of the study, inputs and outputs alike, and what became of the run::

    u | f | status | start | end | exitcode | error
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import IntEnum

import numpy as np

from ringwalk.errors import ConfigError
from ringwalk.memory.fields import FieldSpec, check_fields
from ringwalk.memory.table import Table


class Status(IntEnum):
    """What became of a run; the numbers are those in a table's column ``status``."""

    NEW = 0
    """A row that nobody has asked to run."""
    QUEUED = 1
    RUNNING = 2
    DONE = 3
    FAILED = 4
    """It raised, ended with an exit code that is not 0, or died of a signal."""
    TIMEOUT = 5
    CANCELLED = 6

    @property
    def final(self) -> bool:
        """Whether nothing more will happen to the run by itself."""
        return self >= Status.DONE


ERROR_BYTES = 240
RUN_COLUMNS = {
    "status": np.dtype("u1"),
    "start": np.dtype("f8"),  # seconds since 1970, of the last attempt
    "end": np.dtype("f8"),
    "exitcode": np.dtype("i4"),  # minus the signal, where one ended it
    "error": np.dtype(("S", ERROR_BYTES)),  # UTF-8, cut off; the runner has the whole traceback
}


class RunTable(Table):
    """Rows of a parameter study in shared memory.

        table = RunTable({"u": "f8", "f": ((3,), "f8")}, 1000, path="study.npy")
        table.append(u=0.5)
        table["f"]              # one array over all runs, seen and written by all processes

    Args:
        fields: name -> dtype, or (shape, dtype), of the study's own columns.
        capacity: runs to have room for at once; the table grows when more are appended.
        path: a ``.npy`` file to be at any instant, for ``numpy.load`` and other programs.
        replace: whether an existing file may be replaced.

    Raises as ``Table`` does.
    """

    def __init__(
        self,
        fields: Mapping[str, FieldSpec],
        capacity: int = 1024,
        *,
        path: str | os.PathLike[str] | None = None,
        replace: bool = False,
    ) -> None:
        taken = RUN_COLUMNS.keys() & fields.keys()
        if taken:
            raise ConfigError(
                f"the field name {sorted(taken)[0]!r} is taken: every run table has the columns "
                f"{', '.join(RUN_COLUMNS)}; choose another"
            )
        columns = {**check_fields(fields), **RUN_COLUMNS}
        record = np.dtype(list(columns.items()), align=True)
        super().__init__(record, capacity, path=path, replace=replace)
