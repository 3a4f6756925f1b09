"""PoolRunner: persistent worker processes, one run after another in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from ringwalk.memory import RunTable
from ringwalk.runners.attempt import Attempt
from ringwalk.runners.base import RunnerOptions
from ringwalk.runners.fork import ForkRunner
from ringwalk.runners.process import RunProcess


class PoolRunner(ForkRunner):
    """Like ``ForkRunner``, but a process is kept for the next run, which so costs no fork.

    A worker is forked when the first run needs it and sees this process as it was then; only the
    table is shared. One that died, was cancelled or overran is replaced by a new one.

    A ``WorkerMapper`` runs a known set of segments and waits for the last; here runs come one by
    one and are waited for one by one. So each worker has a socket of its own, and no board.
    """

    def __init__(
        self,
        function: Callable[[Any], object],
        table: RunTable | None = None,
        **options: Unpack[RunnerOptions],
    ) -> None:
        super().__init__(function, table, **options)
        self._idle: list[RunProcess] = []

    def _start(self, run_id: int) -> RunProcess:
        while self._idle:
            process = self._idle.pop()
            if process.alive:
                break
            super()._retire(process)
        else:
            process = self._fork(once=False)
        process.order(run_id)
        return process

    def _retire(self, attempt: Attempt) -> None:
        if isinstance(attempt, RunProcess) and not attempt.buried:
            self._idle.append(attempt)
        else:
            super()._retire(attempt)

    def _idle_told(self) -> None:
        for process in [process for process in self._idle if not process.alive]:
            self._idle.remove(process)
            super()._retire(process)
