"""What WorkerMapper and TaskMapper share: wepy's contract around one of Ringwalk's mappers."""

from __future__ import annotations

import logging
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from wepy.work_mapper.mapper import ABCWorkerMapper

import ringwalk
from ringwalk import ClosedError, Timeline
from ringwalk.adapters.wepy.options import Options
from ringwalk.workers.launch import StartMethod

logger = logging.getLogger(__name__)


class HostedMapper(ABCWorkerMapper):  # type: ignore[misc]  # wepy has no types
    """wepy's constructor, ``init``, ``cleanup`` and properties.

    The processes are those of ``_engine``, which exists from ``init`` to ``cleanup``. Before
    ``init`` and after ``cleanup`` the mapper can be pickled and copied.
    """

    def __init__(
        self,
        num_workers: int | None,
        segment_func: Callable[..., Any] | None,
        options: Options,
        **attributes: Any,
    ) -> None:
        super().__init__(num_workers=num_workers, segment_func=segment_func, **attributes)
        self._options = options
        self._cycle = 0  # goes on from run to run: each has random streams of its own
        self._engine: ringwalk.Mapper | None = None
        self._timeline: Timeline | None = None  # of the last map before cleanup

    def init(
        self,
        num_workers: int | None = None,
        segment_func: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Start the workers. As in wepy, a number given to the constructor takes precedence.

        A mapper that runs, because a run of the simulation broke off, is cleaned up first.

        Raises:
            ValueError: no number of workers, or no segment function, here or in the constructor.
        """
        self.cleanup()
        super().init(num_workers=num_workers, segment_func=segment_func, **kwargs)
        prepare_states()
        self._start(self._resolved_start_method())

    def cleanup(self, **kwargs: Any) -> None:
        """End the workers. Idempotent; what was returned stays valid."""
        self.__dict__.pop("_mp_ctx", None)
        if self._engine is not None:
            engine, self._engine = self._engine, None
            try:
                self._worker_segment_times = engine.worker_segment_times
                self._cycle = engine.cycle
            finally:
                engine.cleanup()
            self._timeline = engine.timeline

    def force_shutdown(self, **kwargs: Any) -> None:
        """End the workers, as ``cleanup`` does."""
        self.cleanup()

    @property
    def worker_segment_times(self) -> dict[int, list[float]] | None:
        """Worker index -> seconds of each segment that it ran in the last map."""
        if self._engine is not None:
            return self._engine.worker_segment_times
        times: dict[int, list[float]] | None = self._worker_segment_times
        return times

    @property
    def timeline(self) -> Timeline | None:
        """What ran where and when in the last map, also after ``cleanup``; None before ``init``."""
        return self._timeline if self._engine is None else self._engine.timeline

    def map(self, *args: Iterable[Any], **kwargs: Iterable[Any]) -> list[Any]:
        """Run the segment for every walker; results in input order.

        Raises:
            TaskException: a segment raised; ``wrapped_exception`` is what it raised.
            WorkerException, TaskProcessException: anything else went wrong in a worker.
            ValueError: unequal lengths; nothing was started.
        """
        raise NotImplementedError

    @abstractmethod
    def _make_engine(self, method: StartMethod) -> ringwalk.Mapper:
        """One of Ringwalk's mappers, not initialised."""

    def _start(self, method: StartMethod) -> None:
        engine = self._make_engine(method)
        engine.init(cycle=self._cycle)
        self._engine = engine

    def _running(self) -> ringwalk.Mapper:
        if self._engine is None:
            raise ClosedError("the mapper is not running; call init() first")
        return self._engine

    def _resolved_start_method(self) -> StartMethod:
        """The start method asked for; where that is fork and OpenMM's threads run here, spawn."""
        method: StartMethod = self._proc_start_method or "fork"
        if method == "fork" and openmm_threads():
            logger.warning(
                "threads of OpenMM run in this process, so that forked workers could hang in PME "
                "(openmm issue 2602): workers are started as fresh interpreters instead. They "
                "import the script anew where its own classes or functions are needed, so it "
                "wants the usual 'if __name__ == \"__main__\":'"
            )
            return "spawn"
        return method

    def __getstate__(self) -> dict[str, Any]:
        if self._engine is not None:
            raise TypeError("a running mapper cannot be pickled or copied: call cleanup() first")
        return self.__dict__.copy()


def prepare_states() -> None:
    """Have OpenMM states travel as arrays, if OpenMM is in use here."""
    if "openmm" in sys.modules:
        from ringwalk.adapters.wepy import states

        states.register()


def openmm_threads() -> bool:
    """Whether native threads of OpenMM run in this process."""
    if "openmm" not in sys.modules:
        return False
    from ringwalk.adapters.wepy.threads import threads_inside

    return bool(threads_inside("libOpenMM"))
