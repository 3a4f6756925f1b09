"""Deadline: what overran ``timeout`` is killed, and so is who leaves tasks waiting for as long."""

from __future__ import annotations

from ringwalk._core.board import now_ns
from ringwalk.observe.stuck import StuckWorker
from ringwalk.workers.pool import Pool

_SHORTEST_PATIENCE_S = 1.0


def segment_name(walker: int) -> str:
    """What a message calls a walker's segment."""
    return f"The segment of walker {walker}"


class Deadline:
    """Watches the workers of one wave.

    Args:
        timeout: seconds that a segment may take; None for any time.
        first: walker index of the wave's first task.

    Attributes:
        overran: tasks whose worker was killed because they took longer.
        stuck: of these, those whose worker could never have gone on.
    """

    def __init__(self, pool: Pool, timeout: float | None, first: int) -> None:
        self.overran: set[int] = set()
        self.stuck: dict[int, StuckWorker] = {}
        self._pool = pool
        self._first = first
        self._board = pool.space.board
        self._timeout = timeout
        self._finished = 0
        self._idle_since: dict[int, int] = {}  # worker -> when it was first seen to take no task

    def look(self, armed: int, finished: int) -> None:
        """Kill who is late, of the wave's first ``armed`` tasks, of which some are finished."""
        if self._timeout is None:
            return
        now = now_ns()
        moved = self._kill_overdue(now - int(self._timeout * 1e9))
        if finished != self._finished or moved or not self._board.ready(armed):
            self._finished = finished
            self._idle_since.clear()
        else:
            self._kill_idle(now, int(max(self._timeout, _SHORTEST_PATIENCE_S) * 1e9))

    def died(self, worker: int) -> None:
        """Its successor is not to blame for tasks that waited meanwhile."""
        self._idle_since.pop(worker, None)

    def _kill_overdue(self, latest: int) -> bool:
        """Kill workers whose task began before ``latest``; whether any runs a task."""
        running = False
        for worker in range(self._pool.setup.num_workers):
            task = self._board.running_on(worker)
            if task is None:
                continue
            running = True
            if 0 < self._board.started_ns(task) < latest:
                self._note_overrun(task, worker)
                self._pool.crew.kill(worker)  # at each look: it may be known only at the next
        return running

    def _note_overrun(self, task: int, worker: int) -> None:
        if task in self.overran:
            return
        self.overran.add(task)
        crew = self._pool.crew
        found = crew.stuck.examine(crew, worker, lambda task: segment_name(self._first + task))
        if found is not None:
            self.stuck[task] = found

    def _kill_idle(self, now: int, patience: int) -> None:
        """Tasks wait and nobody takes one: those who could are stopped, or hang between tasks."""
        for worker in filter(self._pool.crew.started, range(self._pool.setup.num_workers)):
            if now - self._idle_since.setdefault(worker, now) > patience:
                self._pool.crew.kill(worker)
