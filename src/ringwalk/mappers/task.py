"""TaskMapper: a fresh forked process for every segment."""

from __future__ import annotations

from typing import Any

from ringwalk.mappers.process import ProcessMapper
from ringwalk.mappers.worker import check_worker_type
from ringwalk.workers.setup import Setup
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

    ``worker_init`` runs in every task process. Arrays in arguments are the process's private
    copies whatever ``inputs`` says; of those on memory that a fork shares (a writable
    ``np.memmap``, ``SharedMemory``), it gets a copy that refuses writing with "readonly".
    """

    def __init__(
        self, *args: Any, walker_task_type: type[Worker] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._worker_type = check_worker_type("walker_task_type", walker_task_type)

    @property
    def walker_task_type(self) -> type[Worker]:
        """The class whose objects run the segments."""
        return self._worker_type

    def _start(self, setup: Setup) -> None:
        self._open_pool(setup, "lanes", "fork")
