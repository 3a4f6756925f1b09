"""ForkRunner: a forked process a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Unpack

from ringwalk.config import usable_cpus
from ringwalk.memory import RunTable
from ringwalk.runners.base import Runner, RunnerOptions
from ringwalk.runners.process import RunProcess
from ringwalk.workers.bootstrap import limit_threads


class ForkRunner(Runner):
    """Forks a process for each run: it sees everything as it is when the run starts.

        def simulate(row):
            row["f"] = row["u"] ** 2

        with ForkRunner(simulate, table) as runner:
            runner.spawn_array(design)
            runner.wait_all()

    Args:
        function: called with the run's row of the table, to read and write; without a table,
            with the run's number. What it returns is ignored.

    and those of ``Runner``. A fork is not safe while other threads of this process hold locks, and
    is refused once CUDA has started here.
    """

    def __init__(
        self,
        function: Callable[[Any], object],
        table: RunTable | None = None,
        **options: Unpack[RunnerOptions],
    ) -> None:
        super().__init__(table, **options)
        self.function = function
        threads = max(1, usable_cpus() // self.parallel)
        self._limit = partial(limit_threads, threads)

    def _start(self, run_id: int) -> RunProcess:
        process = self._fork(once=True)
        process.order(run_id)
        return process

    def _fork(self, *, once: bool) -> RunProcess:
        return RunProcess(
            self._run,
            self._log,
            self._launcher.next_mark(),
            limit=self._limit,
            once=once,
            siblings=[process for process in self._open if isinstance(process, RunProcess)],
        )

    def _run(self, run_id: int) -> None:
        self.function(run_id if self.table is None else self.table.rows[run_id])
