"""Drop-in mappers for wepy 1.2: change one import and a simulation runs on Ringwalk.

    from ringwalk.adapters.wepy import TaskMapper, WorkerMapper

Every class of ``wepy.work_mapper.mapper`` and ``wepy.work_mapper.task_mapper`` can be imported from
here. Those that Ringwalk does not replace, ``Worker`` and ``WalkerTaskProcess`` for instance, are
wepy's own.

What changes, and how to go back, is told in docs/adapters/wepy.md. The OpenMM worker types need
OpenMM and are imported when they are asked for; the rest needs only wepy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wepy.work_mapper.mapper import (
    PY_MAP,
    ABCMapper,
    ABCWorkerMapper,
    Task,
    TaskException,
    Worker,
    WorkerException,
    WorkerKilledError,
    WrapperException,
)
from wepy.work_mapper.task_mapper import (
    TaskProcessException,
    TaskProcessKilledError,
    WalkerTaskProcess,
)

from ringwalk.adapters.wepy.serial import Mapper
from ringwalk.adapters.wepy.task import TaskMapper
from ringwalk.adapters.wepy.worker import WorkerMapper

if TYPE_CHECKING:
    from ringwalk.adapters.wepy.openmm import (
        OpenMMCPUWalkerTaskProcess,
        OpenMMCPUWorker,
        OpenMMGPUWalkerTaskProcess,
        OpenMMGPUWorker,
    )

__all__ = [
    "PY_MAP",
    "ABCMapper",
    "ABCWorkerMapper",
    "Mapper",
    "OpenMMCPUWalkerTaskProcess",
    "OpenMMCPUWorker",
    "OpenMMGPUWalkerTaskProcess",
    "OpenMMGPUWorker",
    "Task",
    "TaskException",
    "TaskMapper",
    "TaskProcessException",
    "TaskProcessKilledError",
    "WalkerTaskProcess",
    "Worker",
    "WorkerException",
    "WorkerKilledError",
    "WorkerMapper",
    "WrapperException",
]


def __getattr__(name: str) -> Any:
    if name.startswith("OpenMM") and name in __all__:
        from ringwalk.adapters.wepy import openmm

        return getattr(openmm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
