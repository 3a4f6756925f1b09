"""proFit's runner on ringwalk's: persistent workers for Python, a process group a command.

What proFit promises is kept (``runs``, ``failed``, ``next_run_id``, the logs, the bars). What it
leaves open is decided: waiting sleeps until something happens, ``timeout`` ends a run with all that
it started, a run that died is tried again ``retries`` times, and a failed run keeps its row, as
NaN, so that outputs stay beside their inputs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from profit.run.runner import Runner

from ringwalk.adapters.profit.execution import environment, work
from ringwalk.adapters.profit.exit_status import fail_at_exit
from ringwalk.adapters.profit.interface import RingwalkRunnerInterface
from ringwalk.config import usable_cpus
from ringwalk.memory import Status
from ringwalk.runners import LocalRunner, PoolRunner
from ringwalk.runners import Runner as Engine

_STOCK_COMMAND = "profit-worker"
_UNLIMITED = 1 << 12


class RingwalkRunner(Runner, label="ringwalk"):  # type: ignore[misc, call-arg]
    """Drop-in for ``ForkRunner`` and ``LocalRunner``.

    Args:
        command: another program than ``profit-worker`` is executed once a run, as by
            ``LocalRunner``; else runs go to worker processes that are forked at the first one.
        parallel: runs at a time; "all" for the usable CPUs, 0 for no limit.
        timeout: seconds a run may take.
        retries: how often a run whose process died is tried again.
        kwargs: of proFit's ``Runner``; ``sleep`` matters beside interfaces that must be asked only.
    """

    def __init__(
        self,
        *,
        command: str = _STOCK_COMMAND,
        parallel: int | str = "all",
        timeout: float | None = None,
        retries: int = 0,
        work_dir: str = ".",
        **kwargs: Any,
    ) -> None:
        self.command = command
        self.timeout = timeout
        self.retries = retries
        self._engine: Engine | None = None
        os.makedirs(work_dir, exist_ok=True)
        limit = usable_cpus() if parallel == "all" else int(parallel)
        super().__init__(parallel=limit, work_dir=work_dir, **kwargs)
        fail_at_exit(self)

    @property
    def config(self) -> dict[str, Any]:
        own = {"command": self.command, "timeout": self.timeout, "retries": self.retries}
        return {**super().config, **own}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} ({self.command}, parallel={self.parallel})>"

    # --- runs --------------------------------------------------------------------------------

    def spawn(self, params: Any = None, wait: bool = False) -> None:
        super().spawn(params, wait)
        run_id = self.next_run_id
        self.interface.internal["DONE"][run_id] = False
        self.failed.pop(run_id, None)
        self.runs[run_id] = Status.QUEUED
        self.next_run_id += 1
        self.engine.enqueue(run_id)
        if wait:
            self.wait(run_id)

    def spawn_array(
        self, params_array: Iterable[Any], wait: bool = False, progress: bool = False
    ) -> None:
        import tqdm

        for params in tqdm.tqdm(params_array, desc="submitted") if progress else params_array:
            while len(self.runs) >= self.parallel > 0:
                self._sleep()
            self.spawn(params)
        if wait:
            self.wait_all(progress=progress)

    def poll(self, run_id: int) -> None:
        self.check_runs()

    def check_runs(self) -> None:
        self._take_in(self.engine.poll_all())

    def cancel(self, run_id: int) -> None:
        if run_id in self.runs:
            self.engine.cancel(run_id)
            self._book([run_id])

    def cancel_all(self) -> None:
        self.logger.debug("cancel all runs")
        if self.runs:
            self.engine.cancel_all()
            self._book(list(self.runs))

    def wait(self, run_id: int) -> None:
        while run_id in self.runs:
            self._sleep()

    def wait_all(self, progress: bool = False) -> None:
        import tqdm

        with tqdm.tqdm(total=self.next_run_id, desc="finished ", disable=not progress) as bar:
            bar.update(self.next_run_id - len(self.runs))
            while self.runs:
                self._sleep()
                bar.update(bar.total - len(self.runs) - bar.n)

    def close(self) -> None:
        """End the workers and give up the table, whose file stays. Idempotent."""
        if self._engine is not None:
            self._engine.close()
        if isinstance(self.interface, RingwalkRunnerInterface):
            self.interface.table.close()

    def clean(self) -> None:
        if self._engine is not None:
            self._engine.close()
        super().clean()

    # --- results -----------------------------------------------------------------------------

    @property
    def input_data(self) -> Any:
        return self.interface.input[self._ended()]

    @property
    def output_data(self) -> Any:
        """Rows of the runs that ended, beside ``input_data``; NaN for those that failed."""
        ended = self._ended()
        data = self.interface.output[ended]
        lost = ~self.interface.internal["DONE"][ended]
        for name in data.dtype.names:
            kind = data.dtype[name].base
            data[name][lost] = np.nan if kind.kind in "fc" else np.zeros((), kind)
        return data

    def _ended(self) -> Any:
        ended = self.interface.internal["DONE"].copy()
        ended[[run_id for run_id in self.failed if run_id < len(ended)]] = True
        return ended

    # --- how it is done ----------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """What executes the runs; made with the first of them."""
        if self._engine is None:
            options: dict[str, Any] = {"timeout": self.timeout, "retries": self.retries}
            options["parallel"] = self.parallel or _UNLIMITED
            if self.command == _STOCK_COMMAND:
                self._engine = PoolRunner(partial(work, self), **options)
            else:
                self._engine = LocalRunner(
                    self.command, env=partial(environment, self), cwd=self.work_dir, **options
                )
        return self._engine

    def _sleep(self) -> None:
        """Until a run has ended; an interface that talks must be asked in between."""
        ours = isinstance(self.interface, RingwalkRunnerInterface)
        self._take_in(self.engine.wait_any(None if ours else self.sleep))

    def _take_in(self, ended: Iterable[int]) -> None:
        """Book what ended; at last also what a wait had seen end that was interrupted then."""
        self.interface.poll()
        self._book(ended if ended or self.engine.unfinished else list(self.runs))

    def _book(self, ended: Iterable[int]) -> None:
        for run_id in ended:
            del self.runs[run_id]
            failure = self.engine.failed.get(run_id)
            # Asked now that the process is gone: what it said is said. Done is done, even if it
            # was killed a moment later.
            if self.interface.internal["DONE"][run_id]:
                self.logger.info(f"run {run_id} done")
                continue
            self.failed[run_id] = failure or "ended without transmitting"
            self.logger.info(f"run {run_id} failed")
            told = "ended without transmitting" if failure is None else failure.error
            self.logger.warning(f"run {run_id}: {told}")
            if failure is not None and failure.traceback:
                self.logger.info(failure.traceback)
