"""WorkerMapper: persistent worker processes."""

from __future__ import annotations

from typing import Any

from ringwalk.errors import ConfigError
from ringwalk.mappers.options import check_choice
from ringwalk.mappers.process import ProcessMapper
from ringwalk.workers.launch import StartMethod
from ringwalk.workers.pool import Pool
from ringwalk.workers.setup import Setup
from ringwalk.workers.worker import Worker


class WorkerMapper(ProcessMapper):
    """Runs segments in worker processes that live from ``init`` to ``cleanup``.

    Takes all arguments of ``Mapper``, and:

    Args:
        worker_type: a subclass of ``ringwalk.Worker``, to change how a worker runs a segment.
        start_method: "fork" (default) inherits the segment function and everything it refers to,
            as they are at ``init``. "spawn" and "forkserver" start fresh interpreters, for
            parents that use threads or CUDA; the segment function then travels by pickle or
            cloudpickle, and scripts need the usual ``if __name__ == "__main__":``.

    Constants of a map (``itertools.repeat``) are unpickled once a worker and map: a segment that
    changes one changes it for the later segments of that worker.
    """

    def __init__(
        self,
        *args: Any,
        worker_type: type[Worker] | None = None,
        start_method: StartMethod = "fork",
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        check_choice("start_method", start_method, ("fork", "spawn", "forkserver"))
        self._start_method: StartMethod = start_method
        self._worker_type = check_worker_type("worker_type", worker_type)

    @property
    def worker_type(self) -> type[Worker]:
        """The class whose objects run the segments."""
        return self._worker_type

    def _start(self, setup: Setup) -> None:
        pool = Pool(setup, "persistent", self._start_method)
        try:
            pool.crew.fill(None)
        except BaseException:
            pool.close()
            raise
        self._attach(pool)


def check_worker_type(name: str, value: type[Worker] | None) -> type[Worker]:
    if value is None:
        return Worker
    if not (isinstance(value, type) and issubclass(value, Worker)):
        raise ConfigError(f"{name} is {value!r}; give a subclass of ringwalk.Worker")
    return value
