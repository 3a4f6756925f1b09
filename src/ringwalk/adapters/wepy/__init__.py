"""Drop-in mappers for wepy 1.2: change one import and a simulation runs on Ringwalk.

    from ringwalk.adapters.wepy import TaskMapper, WorkerMapper

What changes, and how to go back, is told in docs/adapters/wepy.md. The OpenMM worker types need
OpenMM and are imported when they are asked for; the rest needs only wepy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wepy.work_mapper.mapper import TaskException, WorkerException
from wepy.work_mapper.task_mapper import TaskProcessException

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
    "Mapper",
    "OpenMMCPUWalkerTaskProcess",
    "OpenMMCPUWorker",
    "OpenMMGPUWalkerTaskProcess",
    "OpenMMGPUWorker",
    "TaskException",
    "TaskMapper",
    "TaskProcessException",
    "WorkerException",
    "WorkerMapper",
]


def __getattr__(name: str) -> Any:
    if name.startswith("OpenMM") and name in __all__:
        from ringwalk.adapters.wepy import openmm

        return getattr(openmm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
