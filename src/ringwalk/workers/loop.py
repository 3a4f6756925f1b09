"""The loop in a worker: claim a task, run its segment, publish what came of it.

Used by persistent workers (each claims for itself) and by the task processes of a lane (the lane
claims, its child runs one task and ends).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringwalk._core.consumer import Consumer
from ringwalk.errors import HeapFullError
from ringwalk.workers.failure import Failure, Stage
from ringwalk.workers.job import Getter, Marker, UnreadableArgument
from ringwalk.workers.plan import WorkerSpace


class Publisher:
    """Commits results and failures of one worker."""

    def __init__(self, space: WorkerSpace) -> None:
        self._consumer = space.consumer
        self._codec = space.codec

    def result(self, task: int, box: list[Any], mark: Marker) -> None:
        """Take a result out of its box and commit it; one that cannot travel fails the task.

        Arrays that nobody else has in this process, not even the caller, are not copied.
        """
        box[0] = mark(box[0])
        if self._consumer.commit_inline(task, box[0]):
            return
        try:
            block, length = self._codec.give(box)
        except (Exception, SystemExit) as error:  # of a user's __reduce__, or no memory
            self.failure(task, error, "result")
        else:
            self._consumer.commit(task, False, block, length)

    def raised(self, task: int, error: BaseException) -> None:
        """Commit what a call ended with: the segment's own error, or its argument's."""
        if isinstance(error, UnreadableArgument):
            self.failure(task, error.reason, "argument")
        else:
            self.failure(task, error, "segment")

    def failure(self, task: int, error: BaseException, stage: Stage) -> None:
        payload, _ = self._codec.dumps(Failure.of(error, stage))
        try:
            block = self._codec.own.put(payload)
        except HeapFullError as full:
            # Even the report found no room. Dying tells the parent at least which task it was.
            raise SystemExit(1) from full
        self._consumer.commit(task, True, block, len(payload))


def run_task(publish: Publisher, task: int, call: Getter, mark: Marker) -> None:
    """Run one claimed task and commit what came of it. SystemExit ends the worker."""
    try:
        box = [call(task)]
    except SystemExit:
        raise
    except BaseException as error:  # a segment may raise anything; the parent decides
        publish.raised(task, error)
    else:
        publish.result(task, box, mark)


def serve(space: WorkerSpace, load_job: Callable[[], tuple[Getter, Marker]]) -> None:
    """Run tasks until the pool closes."""
    consumer, publish = space.consumer, Publisher(space)
    task = consumer.take()
    while task >= 0:
        try:
            call, mark = load_job()
        except Exception as error:  # unpickling runs user code
            publish.failure(task, error, "argument")
            task = consumer.take()
        else:
            task = _run_map(consumer, publish, task, call, mark)


def _run_map(consumer: Consumer, publish: Publisher, task: int, call: Getter, mark: Marker) -> int:
    """Run tasks of one map, of which the first is claimed; the first of the next, or -1."""
    epoch = consumer.epoch_of(task)
    run_task(publish, task, call, mark)
    while True:
        try:
            # run_task over and over, without coming back here for what the record has room for.
            box = [consumer.run(epoch, call)]
        except SystemExit:
            raise
        except BaseException as error:
            if consumer.taken < 0:
                raise  # from a signal handler, between tasks
            publish.raised(consumer.taken, error)
            continue
        task = consumer.taken
        if task < 0 or consumer.epoch_of(task) != epoch:
            return task
        publish.result(task, box, mark)
