"""Timeline: what ran where and when, one record an attempt.

Guarantee: nothing is measured for it that a map would not measure anyway; it is put together when
somebody asks. Times are those of the worker that ran the attempt, on the machine's monotonic clock.

Does not: tell what happens inside a segment. Use a profiler in the worker for that.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from ringwalk.observe.stuck import StuckWorker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Path_ = str | os.PathLike[str]

RECORD = np.dtype(
    [
        ("cycle", "i8"),
        ("walker", "i8"),
        ("worker", "i4"),
        ("device", "i4"),
        ("attempt", "i4"),
        ("outcome", "U6"),
        ("queued", "f8"),
        ("started", "f8"),
        ("finished", "f8"),
        ("bytes_in", "i8"),
        ("bytes_out", "i8"),
        ("copies", "i4"),
    ]
)
"""One attempt to run a walker's segment.

* ``cycle``: number of the map; ``walker``: index in it; ``worker``: index of the worker.
* ``device``: position in ``Timeline.devices``, -1 without one.
* ``attempt``: 1 for the first. ``outcome``: "done", "failed" (the segment raised), "died".
* ``queued``: when it could have begun, ``started``: a worker took it, ``finished``: its result was
  there, or its worker known dead. Seconds since the timeline's ``origin``.
* ``bytes_in``: written for this walker to give it to a worker, ``bytes_out``: by the worker for its
  result. A row of a block counts with its padding, an array that many walkers share at the first
  of them, constants of the map not at all.
* ``copies``: how often the walker's data was copied, from the caller to the caller again.
"""

Records = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Memory:
    """The most memory that was in use, in bytes; 0 or nothing where it cannot be known any more.

    Attributes:
        parent: resident in the calling process.
        workers: worker -> resident in its process, for processes that lived when it was asked.
        ended: resident in the largest child process that has ended.
        shared: promised by the kernel for payloads in shared memory.
    """

    parent: int = 0
    workers: Mapping[int, int] = field(default_factory=dict)
    ended: int = 0
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """What ran where and when, in one map or several.

    Attributes:
        records: of dtype ``RECORD``, one an attempt that began, in order of start.
        spans: when each map began and ended, seconds since ``origin``, shape (maps, 2).
        workers: number of workers.
        devices: labels of the devices that workers share.
        origin: seconds on the monotonic clock (``time.monotonic()``) that all times count from.
        mapper: the class of mapper.
        memory: high-water marks.
        stuck: workers that were found unable to go on.
        started: how the processes were started, and why; empty where there are none.
    """

    records: Records
    spans: npt.NDArray[np.float64]
    workers: int
    devices: tuple[str, ...]
    origin: float
    mapper: str
    memory: Memory
    stuck: tuple[StuckWorker, ...] = ()
    started: str = ""

    @classmethod
    def join(cls, timelines: Iterable[Self]) -> Self:
        """One timeline of several maps, the gaps between them included.

        Raises ValueError for none, or for mappers with unequal workers or devices.
        """
        parts = sorted(timelines, key=lambda part: part.origin)
        if not parts:
            raise ValueError("join() got no timelines; give it those of at least one map")
        first, last = parts[0], parts[-1]
        if len({(part.workers, part.devices) for part in parts}) > 1:
            raise ValueError(
                "the timelines come from mappers with unequal workers or devices; join those of "
                "one mapper"
            )
        return cls(
            np.concatenate([_later(part.records, part.origin - first.origin) for part in parts]),
            np.concatenate([part.spans + (part.origin - first.origin) for part in parts]),
            first.workers,
            first.devices,
            first.origin,
            first.mapper,
            last.memory,
            tuple(found for part in parts for found in part.stuck),
            last.started,
        )

    def __len__(self) -> int:
        return len(self.records)

    @property
    def seconds(self) -> float:
        """From the begin of the first map to the end of the last."""
        return float(np.max(self.spans, initial=0.0) - np.min(self.spans, initial=0.0))

    def device_of(self, worker: int) -> str:
        """Label of a worker's device; empty without one."""
        return self.devices[worker % len(self.devices)] if self.devices else ""

    def save(self, path: Path_) -> None:
        """Write a trace for https://ui.perfetto.dev or chrome://tracing, as JSON."""
        from ringwalk.observe.trace import write_trace

        write_trace(self, path)

    def plot(self, path: Path_ | None = None) -> Figure:
        """Draw workers down, time across; write it to ``path`` (png, pdf, svg) if one is given.

        Needs matplotlib: ``pip install ringwalk[report]``.
        """
        from ringwalk.observe.figure import draw

        return draw(self, path)

    def report(self, path: Path_) -> None:
        """Write one HTML file that needs nothing else: what was used, what was lost, what to do."""
        from ringwalk.observe.report import write_report

        write_report(self, path)


def _later(records: Records, seconds: float) -> Records:
    moved = records.copy()
    for name in ("queued", "started", "finished"):
        moved[name] += seconds
    return moved
