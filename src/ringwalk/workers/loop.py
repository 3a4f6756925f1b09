"""The loop in a worker: claim a task, run its segment, publish what came of it.

Used by persistent workers (each claims for itself) and by the task processes of a lane (the lane
claims, its child runs one task and ends).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringwalk.errors import HeapFullError
from ringwalk.workers.failure import Failure, Stage
from ringwalk.workers.job import Getter, Marker, UnreadableArgument
from ringwalk.workers.plan import Workspace


class Publisher:
    """Commits results and failures of one worker."""

    def __init__(self, space: Workspace) -> None:
        self._board = space.board
        self._codec = space.codec

    def result(self, task: int, result: Any, mark: Marker) -> None:
        """Commit a result; one that cannot travel becomes the task's failure."""
        result = mark(result)
        if self._board.commit_inline(task, result):
            return
        try:
            encoded = self._codec.dumps(result)
            block = self._codec.own.put(encoded.payload)
        except Exception as error:  # whatever a user's __reduce__ raises, or no memory
            self.failure(task, error, "result")
        else:
            self._board.commit(task, False, block, len(encoded.payload))

    def failure(self, task: int, error: BaseException, stage: Stage) -> None:
        payload = self._codec.dumps(Failure.of(error, stage)).payload
        try:
            block = self._codec.own.put(payload)
        except HeapFullError as full:
            # Even the report found no room. Dying tells the parent at least which task it was.
            raise SystemExit(1) from full
        self._board.commit(task, True, block, len(payload))


def run_task(publish: Publisher, task: int, call: Getter, mark: Marker) -> None:
    """Run one claimed task and commit what came of it. SystemExit ends the worker."""
    try:
        result = call(task)
    except SystemExit:
        raise
    except BaseException as error:  # a segment may raise anything; the parent decides
        publish.failure(task, error, "segment")
    else:
        publish.result(task, result, mark)


def serve(space: Workspace, load_job: Callable[[], tuple[Getter, Marker]], spin_ns: int) -> None:
    """Run tasks until the pool closes."""
    board, publish = space.board, Publisher(space)
    take, commit_inline = board.take, board.commit_inline
    epoch = -1
    call: Getter
    mark: Marker
    while (task := take(spin_ns)) >= 0:
        if board.epoch_of(task) != epoch:
            try:
                call, mark = load_job()
            except Exception as error:  # unpickling runs user code
                publish.failure(task, error, "argument")
                continue
            epoch = board.epoch_of(task)
        # run_task's body, repeated for the hot path: a no-op segment takes about as long as the
        # two calls that this saves.
        try:
            result = call(task)
        except SystemExit:
            raise
        except UnreadableArgument as unreadable:
            publish.failure(task, unreadable.reason, "argument")
            continue
        except BaseException as error:
            publish.failure(task, error, "segment")
            continue
        if not commit_inline(task, result):
            publish.result(task, result, mark)
        # Views on the inputs die with it now, not when the next task comes.
        result = None
