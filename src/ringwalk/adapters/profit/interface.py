"""proFit's run table on a ``Table``: it grows while workers use it, and has one owner.

The file is what proFit's own memmap interface makes (inputs, DONE, TIME, outputs, in a ``.npy``),
so a stock ``profit-worker`` with ``MemmapWorkerInterface`` can attach to it as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from profit.run.interface import RunnerInterface, WorkerInterface

from ringwalk.memory import Table

INTERNAL = [("DONE", "bool"), ("TIME", "uint32")]


class RingwalkRunnerInterface(RunnerInterface, label="ringwalk"):  # type: ignore[misc, call-arg]
    """Drop-in for ``MemmapRunnerInterface``.

    Args:
        path: the file, relative to the folder that the runner works in.

    Raises:
        BusyError: another run works with that file; the message says whose. Its data is untouched.
    """

    def __init__(
        self,
        size: int,
        input_config: Mapping[str, Any],
        output_config: Mapping[str, Any],
        *,
        path: str = "interface.npy",
        logger_parent: logging.Logger | None = None,
    ) -> None:
        # Not the list of the class: proFit's ZeroMQ interface appends to that.
        self.internal_vars = INTERNAL
        super().__init__(size, input_config, output_config, logger_parent=logger_parent)
        self.path = path
        columns = self.input_vars + self.internal_vars + self.output_vars
        self.table = Table(np.dtype(columns, align=True), size, path=path, replace=True)
        self.table.extend(size)
        self._show()

    def _show(self) -> None:
        rows = self.table.rows
        self.input = rows[[name for name, *_ in self.input_vars]]
        self.output = rows[[name for name, *_ in self.output_vars]]
        self.internal = rows[[name for name, *_ in self.internal_vars]]

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "path": self.path}

    def resize(self, size: int) -> None:
        """Make more rows. Those that exist stay where they are, for everybody."""
        if size <= self.size:
            self.logger.warning("shrinking RunnerInterface is not supported")
            return
        self.table.extend(size - self.size)
        self._show()

    def poll(self) -> None:
        """Nothing: what workers write is there at once."""

    def clean(self) -> None:
        """Remove the file and give up its ownership; arrays that were taken stay valid."""
        if self.table.path is not None:
            self.table.path.unlink(missing_ok=True)
        self.table.close()


class RingwalkWorkerInterface(WorkerInterface, label="ringwalk"):  # type: ignore[misc, call-arg]
    """Drop-in for ``MemmapWorkerInterface``; meets the runner by the path alone.

    Args:
        table: the runner's own, for workers that inherited it; else ``path`` is opened.
    """

    def __init__(
        self,
        run_id: int,
        *,
        path: str = "interface.npy",
        table: Table | None = None,
        logger_parent: logging.Logger | None = None,
    ) -> None:
        self.path = path
        self._inherited = table
        self._attached: Table | None = None
        self._row: Any = None
        # As WorkerInterface.__init__ does, which lists all attributes three times, 10 us a run.
        self.run_id = run_id
        self.logger = logging.getLogger("Interface")
        if logger_parent is not None:
            self.logger.parent = logger_parent
        self.input = self.output = np.zeros(1, dtype=[])[0]

    @property
    def config(self) -> dict[str, Any]:
        return {**super().config, "path": self.path}

    @property
    def time(self) -> Any:
        return None if self._row is None else self._row["TIME"]

    @time.setter
    def time(self, value: int) -> None:
        if self._row is not None:
            self._row["TIME"] = value

    def retrieve(self) -> None:
        table = self._inherited
        if table is None:
            table = self._attached = Table.attach(Path(self.path))
        names = table.record.names or ()
        split = names.index("DONE")
        rows = table.rows[self.run_id : self.run_id + 1]
        if not len(rows):
            raise IndexError(f"{self.path} has {len(table)} runs, and none with {self.run_id}")
        self._row = rows[0]
        self.input = rows[list(names[:split])][0]
        self.output = rows[[name for name in names[split:] if name not in ("DONE", "TIME")]][0]

    def transmit(self) -> None:
        self._row["DONE"] = True

    def clean(self) -> None:
        self._row = None
        if self._attached is not None:
            self._attached.close()
            self._attached = None
