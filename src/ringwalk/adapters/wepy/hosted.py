"""In the worker: wepy's ``Worker`` and ``WalkerTaskProcess`` objects, the user's own included.

wepy makes such an object in the parent and starts a process from it. Here the process is
Ringwalk's; the object is made in it, without the queues that Ringwalk replaces, and its
``run_task`` runs the segment.
"""

from __future__ import annotations

import multiprocessing.process
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wepy.work_mapper.mapper import Task

from ringwalk import Worker

WALKER_NUMBER = "_ringwalk_walker"
"""Keyword under which a task process is told its walker, whatever the segment function takes."""


class HostedWorker(Worker):
    """Runs segments by one wepy ``Worker`` that lives as long as this process.

    Attributes that it wants: ``host_type``, ``mapper_attributes``, ``worker_attributes`` and
    ``keep_contexts``; ``seeded`` says that the global random streams are those of the walker.
    """

    def __init__(self, index: int, device: int | str | None, attributes: Mapping[str, Any]) -> None:
        super().__init__(index, device, attributes)
        prepare_openmm(attributes)
        with_handler = signal.getsignal(signal.SIGTERM)
        self._host = attributes["host_type"](
            index,
            None,
            None,
            None,
            None,
            mapper_attributes=attributes["mapper_attributes"],
            **attributes["worker_attributes"],
        )
        # It set one that sends a message to nobody and goes on.
        signal.signal(signal.SIGTERM, with_handler)
        _become(self._host)

    def run_task(
        self, segment_func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        result = self._host.run_task(Task(segment_func, *args, **kwargs))
        _forget_split_times(segment_func)
        return result


class HostedTask(Worker):
    """Runs each segment by a wepy ``WalkerTaskProcess`` of its own.

    Attributes that it wants: as ``HostedWorker``, without ``worker_attributes``.
    """

    def __init__(self, index: int, device: int | str | None, attributes: Mapping[str, Any]) -> None:
        super().__init__(index, device, attributes)
        prepare_openmm(attributes)

    def run_task(
        self, segment_func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        task_kwargs = dict(kwargs)
        walker = task_kwargs.pop(WALKER_NUMBER)
        with_handler = signal.getsignal(signal.SIGTERM)
        host = self.attributes["host_type"](
            walker,
            self.attributes["mapper_attributes"],
            segment_func,
            tuple(args),
            task_kwargs,
            None,
            None,
            None,
            None,
        )
        signal.signal(signal.SIGTERM, with_handler)
        host._worker_idx = self.index
        _become(host)
        result = host.run_task(Task(segment_func, *args, **task_kwargs))
        _forget_split_times(segment_func)
        return result


def prepare_openmm(attributes: Mapping[str, Any]) -> None:
    """Where wepy's OpenMM runner is in use, have states move as arrays and contexts be kept."""
    if "wepy.runners.openmm" in sys.modules:
        from ringwalk.adapters.wepy.simulations import install

        install(keep=attributes["keep_contexts"], seeded=attributes["seeded"])


def _become(host: multiprocessing.process.BaseProcess) -> None:
    """Make ``host`` the current process, as starting it would: for ``pid`` and log lines."""
    multiprocessing.process._current_process = host  # type: ignore[attr-defined]


def _forget_split_times(segment_func: Callable[..., Any]) -> None:
    """OpenMMRunner notes the times of each segment until the next cycle begins in the parent."""
    runner = getattr(segment_func, "__self__", None)
    if runner is not None and hasattr(runner, "_last_cycle_segments_split_times"):
        runner._last_cycle_segments_split_times = []
