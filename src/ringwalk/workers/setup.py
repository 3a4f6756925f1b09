"""Setup: everything that a worker is told once, when it starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ringwalk.memory.buffers import Inputs
from ringwalk.workers.devices import Device
from ringwalk.workers.worker import Worker

SegmentFunc = Callable[..., Any]
WorkerInit = Callable[[Any], Any]

_OFFERED = ("device", "context", "rng")


@dataclass(frozen=True, slots=True)
class Setup:
    """Inherited by forked workers as it is; pickled (cloudpickle) for spawned ones."""

    segment_func: SegmentFunc
    num_workers: int
    devices: tuple[Device, ...] | None = None
    worker_init: WorkerInit | None = None
    worker_type: type[Worker] = Worker
    attributes: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    offered: frozenset[str] = frozenset()
    """Which of ``device``, ``context`` and ``rng`` the segment function takes."""
    inputs: Inputs = "copy"
    threads: int = 1
    """BLAS/OpenMP threads a worker may use."""
    cores: tuple[frozenset[int], ...] | None = None
    """Which cores each worker is bound to; None: to none."""
    fresh: bool = False
    """Whether a worker forks a process for each task (``TaskMapper`` from a clean template)."""
    pin_blocks: bool = False
    """Whether a worker registers the blocks that it opens with CUDA."""

    @property
    def prepares(self) -> bool:
        """Whether a worker does what may fail, or take any time, before its first task."""
        custom = self.worker_init is not None or self.worker_type is not Worker
        return custom or self.devices is not None or self.cores is not None


def offered_names(segment_func: SegmentFunc) -> frozenset[str]:
    """Which of ``device``, ``context`` and ``rng`` the function names as parameters.

    A bare ``**kwargs`` does not count: it would get arguments that its author never asked for.
    """
    try:
        parameters = inspect.signature(segment_func).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return frozenset()
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return frozenset(p.name for p in parameters if p.name in _OFFERED and p.kind in by_keyword)
