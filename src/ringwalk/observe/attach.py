"""Looking at running mappers from outside: find them, read them, never write.

    /proc/<pid>/fd/<n> -> /memfd:ringwalk-monitor      facts, as JSON (``observe.monitor``)
    /proc/<pid>/fd/<facts.arena>                       the mapper's shared memory, opened read-only

Only processes of the same user are looked at. Everything is read with ``pread``: a mapper that ends
meanwhile makes a short read, not a signal. What is read may be a moment old, and torn.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ringwalk.closing import Closing
from ringwalk.observe.memory import resident_of
from ringwalk.observe.monitor import MEMFD

PROC = Path("/proc")

SLOT = np.dtype(
    {
        "names": ["done", "running", "phase"],
        "formats": ["u8", "u8", "u4"],
        "offsets": [0, 8, 16],
        "itemsize": 128,
    }
)
"""A worker's words on the board, as ``struct rw_slot`` in ext/csrc/layout.h."""
WORDS_BYTES = 256  # struct rw_board_words there
TASK_BYTES = 64  # struct rw_task there
_START = 48  # its start_ns
_MOST_FACTS = 1 << 20


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """One worker at one moment.

    Attributes:
        done: segments that it has finished since ``init``.
        running: seconds since it began the one that it runs; None if it runs none.
        memory: bytes resident, 0 where it is not known.
        stuck: in what it waits for ever; empty where it does not, as far as is known.
    """

    index: int
    pid: int | None
    device: str
    done: int
    running: float | None
    memory: int
    stuck: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One mapper at one moment.

    Attributes:
        when: seconds on the monotonic clock.
        started: how its processes were started, and why; empty before the first map.
        total: walkers of the map that runs, 0 if none does; finished: those that are.
        shared: bytes of shared memory in use, walker blocks not included.
    """

    when: float
    pid: int
    mapper: str
    function: str
    started: str
    cycle: int
    total: int
    finished: int
    memory: int
    shared: int
    workers: tuple[WorkerSample, ...]


class Attached(Closing):
    """A mapper that is looked at. Raises OSError or ValueError if it is not there, or not ours."""

    def __init__(self, pid: int, descriptor: str, *, proc: Path = PROC) -> None:
        self.pid = pid
        self._fds: list[int] = []
        folder = proc / str(pid) / "fd"
        try:
            self._facts = self._open(folder / descriptor)
            facts = self._read_facts()
            if facts["pid"] != pid:  # a fork has its parent's descriptors
                raise ValueError(f"process {pid} only inherited the monitor of {facts['pid']}")
            self._arena = self._open(folder / str(int(facts["arena"])))
        except BaseException:
            self.close()
            raise
        self.key = (pid, os.fstat(self._facts).st_ino)

    def sample(self) -> Sample:
        """What it does now. Raises OSError or ValueError once it is gone."""
        facts = self._read_facts()
        workers, board = int(facts["workers"]), int(facts["board"])
        raw = os.pread(self._arena, SLOT.itemsize * workers, board + WORDS_BYTES)
        slots = np.frombuffer(raw, SLOT)
        if len(slots) != workers or resident_of(self.pid) == 0:
            raise ValueError(f"process {self.pid} has ended")
        tasks = board + WORDS_BYTES + SLOT.itemsize * workers
        pids = {int(worker): int(pid) for worker, pid in facts["pids"].items()}
        devices = facts["devices"]
        stuck = facts["stuck"]
        total = int(facts["total"])
        finished = int(slots["done"].sum()) - int(facts["before"])
        return Sample(
            time.monotonic(),
            self.pid,
            str(facts["mapper"]),
            str(facts["function"]),
            str(facts["started"]),
            int(facts["cycle"]),
            total,
            min(max(finished, 0), total),
            resident_of(self.pid),
            os.fstat(self._arena).st_blocks * 512,
            tuple(
                WorkerSample(
                    k,
                    pids.get(k),
                    str(devices[k % len(devices)]) if devices else "",
                    int(slots["done"][k]),
                    self._running(tasks, int(slots["running"][k])),
                    resident_of(pids[k]) if k in pids else 0,
                    str(stuck.get(str(k), "")),
                )
                for k in range(workers)
            ),
        )

    def _running(self, tasks: int, hint: int) -> float | None:
        if not 0 < hint < 1 << 32:
            return None
        raw = os.pread(self._arena, 8, tasks + TASK_BYTES * (hint - 1) + _START)
        started = int.from_bytes(raw, "little")
        return max(0.0, (time.monotonic_ns() - started) * 1e-9) if started else 0.0

    def _open(self, path: Path) -> int:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._fds.append(fd)
        if os.fstat(fd).st_uid != os.geteuid():
            raise ValueError(f"{path} belongs to another user")
        return fd

    def _read_facts(self) -> dict[str, Any]:
        line, _, _ = os.pread(self._facts, _MOST_FACTS, 0).partition(b"\n")
        facts = json.loads(line)
        if not isinstance(facts, dict):
            raise ValueError(f"process {self.pid} shows no monitor's facts")
        return facts

    def close(self) -> None:
        """Let go of it. Idempotent."""
        while self._fds:
            os.close(self._fds.pop())


def find(*, proc: Path = PROC) -> Iterator[Attached]:
    """Mappers of this user that were made with ``monitor=True``; for the caller to close."""
    for entry in sorted(proc.iterdir()):
        if not entry.name.isdecimal():
            continue
        for descriptor in _monitors(entry):
            try:
                found = Attached(int(entry.name), descriptor, proc=proc)
            except (OSError, ValueError, KeyError):  # ended meanwhile, or it only inherited it
                continue
            yield found


def _monitors(process: Path) -> list[str]:
    """Descriptors of monitors in a process; none where it has ended, or is not ours to look at."""
    descriptors = process / "fd"
    try:
        if process.stat().st_uid != os.geteuid():
            return []
        names = os.listdir(descriptors)
    except OSError:
        return []
    return [name for name in names if _target(descriptors / name).startswith(f"/memfd:{MEMFD} ")]


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:  # closed meanwhile
        return ""
