"""Worker: what a segment's process knows of itself, and the place to change how it runs one.

Subclass it and hand the class to ``WorkerMapper(worker_type=...)`` or
``TaskMapper(walker_task_type=...)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Worker:
    """One slot of a mapper, seen from inside the process that fills it.

    Attributes:
        index: number of the slot, in ``range(num_workers)``; no two live tasks share one.
        device: the entry of ``devices`` that this process is bound to, or None.
        context: what ``worker_init(device)`` returned in this process, or None.
        attributes: the mapper's ``attributes``.
    """

    def __init__(self, index: int, device: int | str | None, attributes: Mapping[str, Any]) -> None:
        self.index = index
        self.device = device
        self.attributes = attributes
        self.context: Any = None

    def run_task(
        self, segment_func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run one segment. Override to wrap every call in this worker."""
        return segment_func(*args, **kwargs)
