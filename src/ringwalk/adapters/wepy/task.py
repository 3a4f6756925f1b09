"""TaskMapper with wepy's contract: a forked process for every segment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sized
from typing import Any, SupportsIndex
from warnings import warn

from wepy.work_mapper.task_mapper import TaskProcessException, WalkerTaskProcess

import ringwalk
from ringwalk.adapters.wepy.base import HostedMapper
from ringwalk.adapters.wepy.failure import as_wepy
from ringwalk.adapters.wepy.hosted import WALKER_NUMBER, HostedTask
from ringwalk.adapters.wepy.options import Options
from ringwalk.memory.buffers import Inputs
from ringwalk.observe.progress import Progress
from ringwalk.workers.launch import StartMethod

logger = logging.getLogger(__name__)


class TaskMapper(HostedMapper):
    """Takes the arguments of wepy's ``TaskMapper`` and the options of ``Options``.

    Walkers, runner and everything else are inherited by fork, so that nothing needs to be
    pickled but results. Where this process must not be forked (``proc_start_method="spawn"``, or
    threads of OpenMM run here), segments run in fresh interpreters that live for the whole run,
    and walkers and runner have to travel by pickle or cloudpickle.
    """

    def __init__(
        self,
        walker_task_type: Callable[..., WalkerTaskProcess] | None = None,
        num_workers: int | None = None,
        segment_func: Callable[..., Any] | None = None,
        *,
        seed: SupportsIndex | None = None,
        max_retries: int = 1,
        timeout: float | None = None,
        inputs: Inputs = "copy",
        progress: Progress | bool | None = None,
        monitor: bool = False,
        **attributes: Any,
    ) -> None:
        options = Options(seed, max_retries, timeout, inputs, progress, monitor)
        super().__init__(num_workers, segment_func, options, **attributes)
        if walker_task_type is None:
            warn("walker_task_type not given using the default base class", stacklevel=2)
            logger.warning("walker_task_type not given using the default base class")
        self._walker_task_type = walker_task_type or WalkerTaskProcess
        self.results = None  # wepy's has it too; nobody fills it

    @property
    def walker_task_type(self) -> Callable[..., WalkerTaskProcess]:
        """The callable that makes a task process object."""
        return self._walker_task_type

    def map(self, *args: Iterable[Any], **kwargs: Iterable[Any]) -> list[Any]:
        self._leave_fork_if_unsafe()
        engine = self._running()
        walkers = args[0] if isinstance(args[0], Sized) else list(args[0])
        numbers = {WALKER_NUMBER: range(len(walkers))}
        with as_wepy(TaskProcessException):
            if isinstance(engine, ringwalk.WorkerMapper):
                engine.renew(self._func)
            return engine.map(walkers, *args[1:], **kwargs, **numbers)

    def _leave_fork_if_unsafe(self) -> None:
        """OpenMM may have been used in this process since the last map."""
        if isinstance(self._running(), ringwalk.TaskMapper):
            method = self._resolved_start_method()
            if method != "fork":
                self.cleanup()
                self._start(method)

    def _make_engine(self, method: StartMethod) -> ringwalk.Mapper:
        options: dict[str, Any] = self._options.engine() | {
            "attributes": {
                "host_type": self._walker_task_type,
                "mapper_attributes": self._attributes,
                "keep_contexts": False,
                "seeded": self._options.seed is not None,
            }
        }
        if method == "fork":
            return ringwalk.TaskMapper(
                self._func, self.num_workers, walker_task_type=HostedTask, **options
            )
        return ringwalk.WorkerMapper(
            self._func, self.num_workers, worker_type=HostedTask, start_method=method, **options
        )
