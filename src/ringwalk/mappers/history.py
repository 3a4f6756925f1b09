"""What a map leaves behind to tell: the board's own records, and the few things it cannot keep.

The board keeps, for every task, who ran it last, when it began and ended, and what it carried. The
parent adds one clock reading a chunk of tasks handed out, one row a death, and the sizes of large
arrays. Everything else waits until somebody asks for the ``Timeline``: even the board is not
copied as long as its records are those of the last map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ringwalk._core.board import DONE, FAILED, Board, now_ns
from ringwalk.mappers.arguments import Arguments
from ringwalk.observe.stuck import StuckWorker
from ringwalk.observe.timeline import RECORD, Memory, Timeline
from ringwalk.workers.devices import Device
from ringwalk.workers.setup import Setup

TASK = np.dtype(
    [
        ("state", "u8"),
        ("input_offset", "u8"),
        ("input_length", "u8"),
        ("result_value", "u8"),
        ("result_length", "u8"),
        ("result_kind", "u8"),
        ("start_ns", "i8"),
        ("end_ns", "i8"),
    ]
)
"""One task record, as ``struct rw_task`` in ext/csrc/layout.h."""

WORKER_SHIFT = 16  # where a task's state word has its worker, in 16 bits

_PAYLOAD = 5  # RW_RESULT_PAYLOAD there

Records = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Ran:
    """One attempt that the board does not tell of."""

    walker: int
    worker: int
    attempt: int
    outcome: str
    queued_ns: int
    started_ns: int
    finished_ns: int


@dataclass(slots=True)
class Wave:
    """What one wave of a map leaves.

    Attributes:
        first: walker index of task 0.
        epoch: the wave's number on the board.
        queued: (first task, when) of each chunk of tasks that was handed out.
        deaths: attempts whose process died; the next attempt was queued when one finished.
        stuck: workers that were found unable to go on.
        sent, returned: task -> bytes of large arrays that were copied to shared memory for it;
            0 for a result's that lay there already, none for a task without such arrays.
    """

    first: int
    epoch: int
    queued: list[tuple[int, int]] = field(default_factory=list)
    deaths: list[Ran] = field(default_factory=list)
    sent: dict[int, int] = field(default_factory=dict)
    returned: dict[int, int] = field(default_factory=dict)
    stuck: list[StuckWorker] = field(default_factory=list)
    _board: Board | None = None
    _count: int = 0
    _records: Records | None = None

    @classmethod
    def elsewhere(cls, first: int, records: Records) -> Wave:
        """A wave that ran on the board of another process."""
        epoch = int(records["state"][0]) >> 32 if len(records) else 0
        return cls(first, epoch, _records=records)

    def over(self, board: Board, count: int) -> None:
        """The wave is over. The board has its ``count`` records until another wave begins."""
        self._board, self._count = board, count

    def keep(self) -> None:
        """Copy the records: another wave is about to take their place, or the board to go."""
        if self._board is not None:
            # An array with memory of its own: programs that size objects trip over views.
            self._records = np.frombuffer(self._board.snapshot(0, self._count), TASK).copy()
            self._board = None

    @property
    def records(self) -> Records:
        """Of dtype ``TASK``, one a task; none before the wave is over."""
        self.keep()
        return np.empty(0, TASK) if self._records is None else self._records

    def queue(self, first: int) -> None:
        """Tasks from ``first`` on are about to be handed out."""
        self.queued.append((first, now_ns()))

    def died(self, task: int, worker: int, attempt: int, started_ns: int) -> None:
        """A worker died while it ran a task."""
        now = now_ns()
        queued = next((ran for ran in self.deaths[::-1] if ran.walker == self.first + task), None)
        self.deaths.append(
            Ran(
                self.first + task,
                worker,
                attempt + 1,
                "died",
                self.queued_ns(task) if queued is None else queued.finished_ns,
                started_ns or now,
                now,
            )
        )

    def queued_ns(self, task: int) -> int:
        """When a task was handed out first."""
        return next((when for first, when in self.queued[::-1] if first <= task), 0)


@dataclass(slots=True)
class History:
    """What one map leaves.

    Attributes:
        row_bytes: of a walker's rows in the map's blocks.
        ran: attempts in this process.
        ended_ns: 0 while the map runs.
    """

    cycle: int
    workers: int
    devices: tuple[Device, ...]
    row_bytes: int
    began_ns: int = field(default_factory=now_ns)
    ended_ns: int = 0
    waves: list[Wave] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)

    @classmethod
    def begin(cls, setup: Setup, arguments: Arguments, cycle: int) -> History:
        """A map begins."""
        row_bytes = 0
        for block in arguments.blocks:
            row_bytes += block.generations()[0].itemsize
        return cls(cycle, setup.num_workers, setup.devices or (), row_bytes)

    def end(self) -> None:
        """The map is over. Idempotent."""
        self.ended_ns = self.ended_ns or now_ns()

    def keep(self) -> None:
        """Take a copy of what only the board has: it is about to go, or to be used again."""
        for wave in self.waves:
            wave.keep()

    def segment_seconds(self) -> dict[int, list[float]]:
        """Worker -> seconds of each segment that ended, in order of walker."""
        times: dict[int, list[float]] = {worker: [] for worker in range(self.workers)}
        for ran in sorted(self.ran, key=lambda ran: ran.walker):
            times[ran.worker].append((ran.finished_ns - ran.started_ns) * 1e-9)
        for wave in self.waves:
            for worker, seconds_of in segment_times(self.workers, wave.records).items():
                times[worker] += seconds_of
        return times

    def timeline(self, mapper: str, memory: Memory, started: str = "") -> Timeline:
        """All attempts that began, in order of start."""
        own = [self._rows(self.ran)]
        parts = own + [part for wave in self.waves for part in self._of_wave(wave)]
        records = np.concatenate(parts)
        records = records[np.argsort(records["started"], kind="stable")]
        ended = (self.ended_ns or now_ns()) - self.began_ns
        return Timeline(
            records,
            np.array([[0.0, ended * 1e-9]]),
            self.workers,
            tuple(str(device.label) for device in self.devices),
            self.began_ns * 1e-9,
            mapper,
            memory,
            tuple(found for wave in self.waves for found in wave.stuck),
            started,
        )

    def _of_wave(self, wave: Wave) -> Iterator[Records]:
        yield self._rows(wave.deaths)
        state = wave.records["state"] & np.uint64(0xFF)
        good = (state == DONE) | (state == FAILED)
        # Else another map began in another thread, while we read.
        good &= wave.records["state"] >> np.uint64(32) == wave.epoch
        good &= (_worker(wave.records["state"]) < self.workers) & (wave.records["start_ns"] > 0)
        tasks = np.flatnonzero(good)
        chosen = wave.records[tasks]
        queued = np.zeros(len(wave.records), np.int64)
        for first, when in wave.queued:
            queued[first:] = when
        for death in wave.deaths:
            queued[death.walker - wave.first] = death.finished_ns
        sent, returned = _spread(wave.sent, tasks), _spread(wave.returned, tasks)
        payload = chosen["result_kind"] == _PAYLOAD
        in_band = chosen["input_length"].astype(np.int64)
        out_band = np.where(payload, chosen["result_length"], 0).astype(np.int64)
        made = np.zeros(len(chosen), RECORD)
        made["walker"] = wave.first + tasks
        made["worker"] = _worker(chosen["state"])
        made["attempt"] = (chosen["state"] >> np.uint64(8) & np.uint64(0xFF)) + np.uint64(1)
        made["outcome"] = np.where(state[tasks] == DONE, "done", "failed")
        made["queued"] = self._since(queued[tasks])
        made["started"] = self._since(chosen["start_ns"])
        made["finished"] = self._since(chosen["end_ns"])
        made["bytes_in"] = in_band + sent.clip(0) + self.row_bytes
        made["bytes_out"] = out_band + returned.clip(0) + self.row_bytes
        # A row is copied from front to back once. A pickle is written and read, at each end; an
        # array out of band is written once, if at all, and a view on it is no copy.
        made["copies"] = int(self.row_bytes > 0)
        made["copies"] += np.where(sent >= 0, sent > 0, 2 * (in_band > 0))
        made["copies"] += np.where(returned >= 0, returned > 0, 2 * payload)
        yield self._placed(made)

    def _rows(self, attempts: list[Ran]) -> Records:
        made = np.zeros(len(attempts), RECORD)
        for name in ("walker", "worker", "attempt", "outcome"):
            made[name] = [getattr(ran, name) for ran in attempts]
        for name in ("queued", "started", "finished"):
            made[name] = [(getattr(ran, f"{name}_ns") - self.began_ns) * 1e-9 for ran in attempts]
        return self._placed(made)

    def _placed(self, made: Records) -> Records:
        made["cycle"] = self.cycle
        made["device"] = made["worker"] % len(self.devices) if self.devices else -1
        return made

    def _since(self, clock_ns: Records) -> Records:
        return (clock_ns - self.began_ns) * 1e-9


def segment_times(workers: int, records: Records) -> dict[int, list[float]]:
    """Worker -> seconds of each segment that ended, in order of record."""
    times: dict[int, list[float]] = {worker: [] for worker in range(workers)}
    ended = records[records["end_ns"] > 0]
    owners = _worker(ended["state"]).tolist()
    seconds = ((ended["end_ns"] - ended["start_ns"]) * 1e-9).tolist()
    for worker, second in zip(owners, seconds, strict=True):
        if worker in times:  # else a segment wrote over the record
            times[worker].append(second)
    return times


def _worker(state: Records) -> Records:
    return (state >> np.uint64(WORKER_SHIFT) & np.uint64(0xFFFF)).astype(np.int64)


def _spread(sizes: dict[int, int], tasks: Records) -> Records:
    if not sizes:
        return np.full(len(tasks), -1, np.int64)
    return np.array([sizes.get(task, -1) for task in tasks.tolist()], np.int64)
