"""The runner contract: spawn runs, wait for them, know what became of each.

    spawn --> queue --> at most `parallel` attempts --> outcome --> status, failed, the table's row
                              |  one epoll on all of their descriptors; no thread, no sleep
                              `-- retried while it died and `retries` allow, killed at `timeout`

Everything happens inside the calls of the process that owns the runner: a queued run is started
when an earlier one was seen to end, so a program that never polls or waits starts only the first.
"""

from __future__ import annotations

import math
import os
import select
import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, TypedDict

import numpy as np

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.process import Undisturbed
from ringwalk.closing import Closing, Room
from ringwalk.config import resolve_num_workers
from ringwalk.errors import BusyError, ClosedError, ConfigError, ForkedError
from ringwalk.mappers.options import Options
from ringwalk.memory import RunTable, Status
from ringwalk.observe.progress import Counter, Progress
from ringwalk.runners.attempt import Attempt, Outcome, RunFailure
from ringwalk.workers.command import Launcher


@dataclass(slots=True)
class _Active:
    attempt: Attempt
    deadline: float


class RunnerOptions(TypedDict, total=False):
    """What every runner takes by keyword; see ``Runner``."""

    parallel: SupportsIndex | None
    timeout: float | None
    retries: int
    log_dir: str | os.PathLike[str] | None
    progress: Progress | bool | None


class Runner(Closing, ABC):
    """Runs numbered runs, in other processes; each class says only how one is executed.

    Args:
        table: where the runs' rows are; without one, a run is its number only.
        parallel: runs at a time; default: the CPUs that this process may use.
        timeout: seconds that one attempt may take; then its whole process tree is killed.
        retries: how often a run whose process died is started again. A run that raised, or that
            overran, is not.
        log_dir: a folder for ``run_000.log`` and so on, with what each run writes.
        progress: True draws a bar on stderr, where that is a terminal; a function is called with
            (ended, spawned) runs as they are seen to end.

    Attributes:
        failed: run id -> RunFailure, of the runs that failed for good or were cancelled.

    Use it from the thread that made it; any thread may ``close`` it. Ending the runner, or its
    process by whatever means, ends all runs. After Ctrl-C in a wait the runs go on: wait again, or
    ``cancel_all``.
    """

    def __init__(
        self,
        table: RunTable | None = None,
        *,
        parallel: SupportsIndex | None = None,
        timeout: float | None = None,
        retries: int = 0,
        log_dir: str | os.PathLike[str] | None = None,
        progress: Progress | bool | None = None,
    ) -> None:
        self._progress = Counter(progress, "runs")
        Options(timeout=timeout, max_retries=retries)  # refuses what makes no sense
        self.table = table
        self.parallel = resolve_num_workers(parallel)
        self.timeout = timeout
        self.retries = retries
        self.failed: dict[int, RunFailure] = {}
        self._log_dir = None if log_dir is None else Path(log_dir).absolute()
        if self._log_dir is not None:
            self._log_dir.mkdir(parents=True, exist_ok=True)
        self._status: dict[int, Status] = {}
        self._attempts: dict[int, int] = {}
        self._queue: deque[int] = deque()
        self._active: dict[int, _Active] = {}
        self._runs_by_fd: dict[int, int] = {}
        self._open: set[Attempt] = set()
        self._owner = owner_token()
        self._room = Room()
        self._launcher = Launcher()
        self._epoll = select.epoll()
        self._finalizer = weakref.finalize(
            self, _end, self._open, self._launcher, self._epoll, self._owner
        )

    # --- start -------------------------------------------------------------------------------

    def spawn(self, params: Mapping[str, Any] | None = None) -> int:
        """Append a row with ``params`` and queue its run; the run's number, at once."""
        if self.table is None:
            raise ConfigError("spawn makes a row: give the runner a table, or use enqueue(run_id)")
        self._check_usable()
        run_id = self.table.append(**(params or {}))
        self.enqueue(run_id)
        return run_id

    def spawn_array(self, params: Iterable[Any]) -> list[int]:
        """``spawn`` for each of a structured array's rows, or of an iterable of mappings."""
        names = getattr(getattr(params, "dtype", None), "names", None)
        if names is not None:
            return [self.spawn({name: row[name] for name in names}) for row in params]
        return [self.spawn(row) for row in params]

    def enqueue(self, run_id: int) -> None:
        """Run a row that exists; again, if it has ended. Raises BusyError if it has not."""
        # A Ctrl-C would leave a process that nobody knows of.
        with self._room.inside(self._close), Undisturbed():
            self._check_usable()
            status = self.status(run_id)
            if not status.final and status is not Status.NEW:
                raise BusyError(f"run {run_id} is {status.name.lower()}; wait or cancel")
            self.failed.pop(run_id, None)
            self._attempts[run_id] = 0
            self._note(run_id, Status.QUEUED, error=b"", exitcode=0)
            self._queue.append(run_id)
            self._progress.more()
            self._fill()

    # --- look and wait -----------------------------------------------------------------------

    def status(self, run_id: int) -> Status:
        """What is known of a run, without looking."""
        return self._status.get(run_id, Status.NEW)

    @property
    def unfinished(self) -> int:
        """How many runs are queued or running."""
        return len(self._queue) + len(self._active)

    def poll(self, run_id: int) -> Status:
        """Look at all runs without waiting; the status of one."""
        self.poll_all()
        return self.status(run_id)

    def poll_all(self) -> list[int]:
        """Take in what has ended since the last look, start what may start; the ended runs."""
        return self._step(0.0)

    def wait_any(self, timeout: float | None = None) -> list[int]:
        """Wait until a run ends; the runs that did. Empty after ``timeout`` s, or without runs."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        ended: list[int] = []
        with self._room.inside(self._close):
            while not ended and self.unfinished:
                ended = self._step(deadline - time.monotonic())
                if time.monotonic() >= deadline:
                    break
        return ended

    def wait(self, run_id: int, timeout: float | None = None) -> Status:
        """Wait at most ``timeout`` seconds for one run; its status, final unless time was up."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with self._room.inside(self._close):
            while not self.status(run_id).final and self.unfinished:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._step(left)
            return self.status(run_id)

    def wait_all(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for all runs; whether all have ended."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        with self._room.inside(self._close):
            while self.unfinished and (left := deadline - time.monotonic()) > 0:
                self._step(left)
            return not self.unfinished

    # --- end ---------------------------------------------------------------------------------

    def cancel(self, run_id: int) -> None:
        """Kill a run with all that it started, or take it from the queue. Ended ones stay so."""
        self._check_usable()
        if run_id in self._active:
            self._finish(run_id, Outcome(False, error="was cancelled"), Status.CANCELLED)
        elif run_id in self._queue:
            self._queue.remove(run_id)
            self._fail(run_id, Outcome(False, error="was cancelled"), Status.CANCELLED)
        self._fill()

    def cancel_all(self) -> None:
        """``cancel`` every run that has not ended."""
        self._check_usable()
        waiting, self._queue = self._queue, deque()
        for run_id in waiting:
            self._fail(run_id, Outcome(False, error="was cancelled"), Status.CANCELLED)
        for run_id in list(self._active):
            self.cancel(run_id)

    def close(self) -> None:
        """Cancel what has not ended, and end every process. Idempotent; the table stays.

        A wait in another thread ends with ClosedError; one that this was called in, by a progress
        function or a signal handler, as well, and the processes after it.
        """
        self._room.clear(self._close)

    def _close(self) -> None:
        with ExitStack() as ends:  # whatever a progress function raises
            ends.callback(self._progress.end)
            ends.callback(self._finalizer)
            if self._finalizer.alive and is_owner(self._owner):
                self.cancel_all()

    # --- the engine --------------------------------------------------------------------------

    @abstractmethod
    def _start(self, run_id: int) -> Attempt:
        """Begin to execute a run. Raises OSError if no process can be had."""

    def _retire(self, attempt: Attempt) -> None:
        """An attempt is over."""
        for fd in attempt.filenos():
            self._epoll.unregister(fd)
        attempt.close()
        self._open.discard(attempt)

    def _idle_told(self) -> None:
        """There is something to be told by what executes no run."""

    def _log(self, run_id: int) -> Path | None:
        return None if self._log_dir is None else self._log_dir / f"run_{run_id:03d}.log"

    def _fill(self) -> None:
        while self._queue and len(self._active) < self.parallel:
            run_id = self._queue.popleft()
            self._attempts[run_id] += 1
            self._note(run_id, Status.RUNNING, start=time.time())
            try:
                attempt = self._start(run_id)
            except OSError as error:
                self._fail(run_id, Outcome(False, error=f"could not start: {error}"), Status.FAILED)
                continue
            if attempt not in self._open:  # else it has executed a run before
                self._open.add(attempt)
                for fd in attempt.filenos():
                    self._epoll.register(fd, select.EPOLLIN)
            limit = math.inf if self.timeout is None else time.monotonic() + self.timeout
            self._active[run_id] = _Active(attempt, limit)
            for fd in attempt.filenos():
                self._runs_by_fd[fd] = run_id

    def _step(self, timeout: float) -> list[int]:
        """Wait for the first event, at most ``timeout`` seconds; the runs that ended for good.

        It may come back without one earlier, to see whether somebody wants the runner closed.
        """
        with self._room.inside(self._close):
            self._check_usable()
            return self._look(timeout)

    def _look(self, timeout: float) -> list[int]:
        ended = []
        first = math.inf
        if self.timeout is not None:
            first = min((active.deadline for active in self._active.values()), default=math.inf)
        wait = max(0.0, min(timeout, first - time.monotonic(), Room.LOOK_S))
        events = self._epoll.poll(wait)
        if self._room.closing:
            raise ClosedError("this runner was closed while it was waited for; make another")
        with Undisturbed():  # a Ctrl-C would lose the run that is at hand
            for fd, _ in events:
                run_id = self._runs_by_fd.get(fd)
                if run_id is None:  # perhaps its other descriptor was first
                    self._idle_told()
                    continue
                outcome = self._active[run_id].attempt.outcome()
                if outcome is not None:
                    status = Status.DONE if outcome.ok else Status.FAILED
                    if self._finish(run_id, outcome, status):
                        ended.append(run_id)
            now = time.monotonic() if first < math.inf else -math.inf
            for run_id, active in list(self._active.items()):
                if active.deadline <= now:
                    overrun = Outcome(False, error=f"ran longer than {self.timeout:g} s")
                    self._finish(run_id, overrun, Status.TIMEOUT)
                    ended.append(run_id)
            self._fill()
        return ended

    def _finish(self, run_id: int, outcome: Outcome, status: Status) -> bool:
        """Book the end of an attempt; false if the run is tried once more."""
        active = self._active.pop(run_id)
        for fd in active.attempt.filenos():
            del self._runs_by_fd[fd]
        if status in (Status.TIMEOUT, Status.CANCELLED):
            active.attempt.kill()
        self._retire(active.attempt)
        if status is Status.DONE:
            self._note(run_id, status, end=time.time(), exitcode=outcome.exitcode or 0)
        elif status is Status.FAILED and outcome.died and self._attempts[run_id] <= self.retries:
            self._note(run_id, Status.QUEUED)
            self._queue.append(run_id)
            return False
        else:
            self._fail(run_id, outcome, status)
        return True

    def _fail(self, run_id: int, outcome: Outcome, status: Status) -> None:
        self.failed[run_id] = RunFailure(
            run_id,
            status,
            self._attempts[run_id],
            outcome.exitcode,
            outcome.error,
            outcome.traceback,
            self._log(run_id),
        )
        code = 0 if outcome.exitcode is None else outcome.exitcode
        text = outcome.error.encode()
        self._note(run_id, status, end=time.time(), exitcode=code, error=text)

    def _note(self, run_id: int, status: Status, **columns: object) -> None:
        self._status[run_id] = status
        if self.table is not None:
            row = self.table.rows[run_id]
            for name, value in columns.items():
                row[name] = np.asarray(value, row.dtype[name])
            # Last: who sees a final status sees the rest as well.
            row["status"] = status
        if status.final:
            self._progress.fewer()

    def _check_usable(self) -> None:
        if not is_owner(self._owner):
            raise ForkedError("this runner belongs to the process that forked this one")
        if not self._finalizer.alive:
            raise ClosedError("this runner was closed; make another")


def _end(attempts: set[Attempt], launcher: Launcher, epoll: select.epoll, owner: int) -> None:
    if is_owner(owner):
        for attempt in attempts:
            attempt.close()
        launcher.close()
    attempts.clear()
    epoll.close()
