"""WorkerMapper with wepy's contract: persistent worker processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, SupportsIndex
from warnings import warn

from wepy.work_mapper.mapper import Worker, WorkerException

import ringwalk
from ringwalk.adapters.wepy.base import HostedMapper
from ringwalk.adapters.wepy.failure import as_wepy
from ringwalk.adapters.wepy.hosted import HostedWorker
from ringwalk.adapters.wepy.options import Options
from ringwalk.memory.buffers import Inputs
from ringwalk.observe.progress import Progress
from ringwalk.workers.launch import StartMethod

logger = logging.getLogger(__name__)


class WorkerMapper(HostedMapper):
    """Takes the arguments of wepy's ``WorkerMapper``, the options of ``Options``, and:

    Args:
        keep_contexts: a worker keeps its OpenMM context between segments, where system,
            integrator and platform are the same and nothing in them remembers what it ran. Off,
            each segment makes a context, as in wepy; so it does with a ``seed``, because the
            random state of a context cannot be set anew.

    The runner has to be picklable. It is sent once a map, if it changed at all, and a worker keeps
    its copy: what ``run_segment`` sets on it is still there for the worker's next segment.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        worker_type: Callable[..., Worker] | None = None,
        worker_attributes: Mapping[str, Any] | None = None,
        segment_func: Callable[..., Any] | None = None,
        *,
        seed: SupportsIndex | None = None,
        max_retries: int = 1,
        timeout: float | None = None,
        inputs: Inputs = "copy",
        progress: Progress | bool | None = None,
        monitor: bool = False,
        keep_contexts: bool = True,
        **attributes: Any,
    ) -> None:
        options = Options(seed, max_retries, timeout, inputs, progress, monitor)
        super().__init__(num_workers, segment_func, options, **attributes)
        self._worker_attributes = {} if worker_attributes is None else worker_attributes
        self._keep_contexts = keep_contexts
        if worker_type is None:
            warn("worker_type not given using the default base class", stacklevel=2)
            logger.warning("worker_type not given using the default base class")
        self._worker_type = worker_type or Worker

    @property
    def worker_type(self) -> Callable[..., Worker]:
        """The callable that makes a worker object."""
        return self._worker_type

    def map(self, *args: Iterable[Any], **kwargs: Iterable[Any]) -> list[Any]:
        engine = self._running()
        assert isinstance(engine, ringwalk.WorkerMapper)
        with as_wepy(WorkerException):
            engine.renew(self._func)
            return engine.map(*args, **kwargs)

    def _start(self, method: StartMethod) -> None:
        super()._start(method)
        engine = self._running()
        assert isinstance(engine, ringwalk.WorkerMapper)
        # They have just been forked with it: a big runner need not be sent for the first map.
        try:
            engine.renew(self._func, as_started=True)
        except BaseException:  # pickling runs user code
            self.cleanup()
            raise

    def _make_engine(self, method: StartMethod) -> ringwalk.Mapper:
        return ringwalk.WorkerMapper(
            self._func,
            self.num_workers,
            worker_type=HostedWorker,
            start_method=method,
            attributes={
                "host_type": self._worker_type,
                "mapper_attributes": self._attributes,
                "worker_attributes": self._worker_attributes,
                "keep_contexts": self._keep_contexts,
                "seeded": self._options.seed is not None,
            },
            **self._options.engine(),
        )
