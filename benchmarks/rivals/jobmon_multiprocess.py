"""Jobmon's own multiprocess distributor (jobmon-core 3.4.8), with another program as its worker.

Guarantees: it runs what it is given; nothing of it is changed but the path of the program.
Does not: tell when a task has ended, so ``map`` asks every half millisecond, and knows no exit
status. That wait is the rival's own: Jobmon asks every 30 s.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_ASK_S = 0.0005


class JobmonMultiprocess:
    """Runs ``program command`` for each item, as one array."""

    def __init__(self, program: str, command: str, workers: int) -> None:
        from jobmon.plugins.multiprocess.multiproc_distributor import MultiprocessDistributor

        # It looks for its worker's program on PATH, and gives up without.
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._distributor: Any = MultiprocessDistributor("multiprocess", workers)
        if program:
            self._distributor._worker_node_entry_point = program
        self._command = command

    def __enter__(self) -> Self:
        self._distributor.start()
        return self

    def map(self, items: Sequence[int]) -> list[None]:
        ids = self._distributor.submit_array_to_batch_distributor(
            command=self._command, name="n", requested_resources={}, array_length=len(items)
        )
        while self._distributor.get_submitted_or_running():
            time.sleep(_ASK_S)
        return [None] * len(ids)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._distributor.stop()
        for consumer in self._distributor.consumers:
            consumer.join()
