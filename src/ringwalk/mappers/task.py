"""TaskMapper: a fresh forked process for every segment."""

from __future__ import annotations

from typing import Any

from ringwalk.mappers.arguments import Arguments
from ringwalk.mappers.process import ProcessMapper
from ringwalk.mappers.worker import check_worker_type
from ringwalk.memory.by_value import dumps_by_value
from ringwalk.workers.job import Constant, Indexed
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.pool import Pool
from ringwalk.workers.setup import Setup
from ringwalk.workers.start import choose
from ringwalk.workers.worker import Worker


class TaskMapper(ProcessMapper):
    """Runs each segment in a process of its own, forked from the parent as it is at ``map``.

    Arguments, segment function and everything else are inherited by copy-on-write: nothing is
    pickled on the way in, so lambdas, open files and unpicklable walkers work. Only results
    travel. A crash takes one segment with it, and memory that a segment leaks is gone with it.

    Takes all arguments of ``Mapper``, ``bind``, ``harden`` and ``monitor`` (see ``WorkerMapper``),
    and:

    Args:
        walker_task_type: a subclass of ``ringwalk.Worker``, to change how a segment is run.
        start_method: "auto" (default) decides at each map: it forks where that is safe. Where a
            library has threads here that a task would wait for, or CUDA is initialised, each task
            is forked from a process that was forked from a fresh interpreter; function and
            arguments then travel as for a ``WorkerMapper``. What cannot travel is forked with a
            warning. "fork", "spawn" and "forkserver" order one of them. ``started`` tells what was
            chosen.

    ``worker_init`` runs in every task process. Arrays in arguments are the process's private
    copies whatever ``inputs`` says; of those on memory that a fork shares (a writable
    ``np.memmap``, ``SharedMemory``), it gets a copy that refuses writing with "readonly".
    """

    def __init__(
        self,
        *args: Any,
        walker_task_type: type[Worker] | None = None,
        start_method: StartMethod = "auto",
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._start_method = self._check_start_method(start_method)
        self._worker_type = check_worker_type("walker_task_type", walker_task_type)

    @property
    def walker_task_type(self) -> type[Worker]:
        """The class whose objects run the segments."""
        return self._worker_type

    def _start(self, setup: Setup) -> None:
        self._open_pool(setup, "lanes", "fork")

    def _prepare(self, pool: Pool, setup: Setup, arguments: Arguments) -> None:
        def travelling() -> bytes:
            # Of each column the first value: the others mostly are of the same classes.
            columns = (*arguments.positional, *arguments.named.values())
            values = [
                column.value if isinstance(column, Constant) else column.values[0]
                for column in columns
                if isinstance(column, Constant) or (isinstance(column, Indexed) and arguments.count)
            ]
            return dumps_by_value((setup, values))

        chosen = choose(self._start_method, travelling)
        self._chosen = chosen
        pool.fork_tasks_from(chosen.method, setup.segment_func)
