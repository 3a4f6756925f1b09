"""Ringwalk: a shared-memory mapper for ensembles of simulations.

from ringwalk import WalkerBlock, WorkerMapper

block = WalkerBlock(1000, positions=((22, 3), "f8"), weight="f8")
with WorkerMapper(run_segment) as mapper:
    mapper.map(block)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ringwalk.errors import (
    BrokenExecutorError,
    BusyError,
    ClosedError,
    ConfigError,
    CudaInParentError,
    ForkedError,
    GpuInParentError,
    HeapFullError,
    MapError,
    PinError,
    RingwalkError,
    RingwalkWarning,
    SegmentError,
    SegmentTimeout,
    TaskDied,
    TransferError,
    WorkerDied,
    WorkerInitError,
)

if TYPE_CHECKING:
    from ringwalk.futures import Executor
    from ringwalk.mappers import Mapper, SerialMapper, TaskMapper, ThreadMapper, WorkerMapper
    from ringwalk.memory import Row, WalkerBlock
    from ringwalk.observe.timeline import Timeline
    from ringwalk.workers.worker import Worker
else:
    # Numpy comes with these, and a quarter of a second of imports: what a process that only runs
    # commands, or asks for help, has no use for.
    _HOMES = {
        "Executor": "futures",
        "Mapper": "mappers",
        "Row": "memory",
        "SerialMapper": "mappers",
        "TaskMapper": "mappers",
        "ThreadMapper": "mappers",
        "Timeline": "observe.timeline",
        "WalkerBlock": "memory",
        "Worker": "workers.worker",
        "WorkerMapper": "mappers",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__version__ = "0.1.0.dev0"

__all__ = [
    "BrokenExecutorError",
    "BusyError",
    "ClosedError",
    "ConfigError",
    "CudaInParentError",
    "Executor",
    "ForkedError",
    "GpuInParentError",
    "HeapFullError",
    "MapError",
    "Mapper",
    "PinError",
    "RingwalkError",
    "RingwalkWarning",
    "Row",
    "SegmentError",
    "SegmentTimeout",
    "SerialMapper",
    "TaskDied",
    "TaskMapper",
    "ThreadMapper",
    "Timeline",
    "TransferError",
    "WalkerBlock",
    "Worker",
    "WorkerDied",
    "WorkerInitError",
    "WorkerMapper",
    "__version__",
]
