"""Ringwalk: a shared-memory mapper for ensembles of simulations.

from ringwalk import WalkerBlock, WorkerMapper

block = WalkerBlock(1000, positions=((22, 3), "f8"), weight="f8")
with WorkerMapper(run_segment) as mapper:
    mapper.map(block)
"""

from __future__ import annotations

from ringwalk.errors import (
    BrokenExecutorError,
    BusyError,
    ClosedError,
    ConfigError,
    CudaInParentError,
    ForkedError,
    HeapFullError,
    MapError,
    PinError,
    RingwalkError,
    SegmentError,
    SegmentTimeout,
    TaskDied,
    TransferError,
    WorkerDied,
    WorkerInitError,
)
from ringwalk.futures import Executor
from ringwalk.mappers import Mapper, SerialMapper, TaskMapper, ThreadMapper, WorkerMapper
from ringwalk.memory import Row, WalkerBlock
from ringwalk.observe.timeline import Timeline
from ringwalk.workers.worker import Worker

__version__ = "0.1.0.dev0"

__all__ = [
    "BrokenExecutorError",
    "BusyError",
    "ClosedError",
    "ConfigError",
    "CudaInParentError",
    "Executor",
    "ForkedError",
    "HeapFullError",
    "MapError",
    "Mapper",
    "PinError",
    "RingwalkError",
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
