"""What the parent needs of the processes behind a pool, whichever way they are made."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ringwalk._core import headroom
from ringwalk.errors import WorkerInitError
from ringwalk.workers.job import Job
from ringwalk.workers.native_threads import OtherThreads
from ringwalk.workers.stuck import StuckWatch


@dataclass(frozen=True, slots=True)
class Death:
    """A worker is dead for certain: it will write nothing any more."""

    slot: int
    exitcode: int | None
    signal: int | None
    was_ready: bool

    @classmethod
    def from_status(cls, slot: int, status: int, *, was_ready: bool) -> Death:
        """From a wait status. Exit code 0 without a commit is a death too: ``os._exit(0)``."""
        number = status & 0x7F
        if number:
            return cls(slot, None, number, was_ready)
        return cls(slot, status >> 8, None, was_ready)

    @property
    def end(self) -> str:
        """How it ended, for a message."""
        if self.signal is None:
            return f"exit code {self.exitcode}"
        try:
            return f"signal {self.signal} ({signal.Signals(self.signal).name})"
        except ValueError:  # a real-time signal has no name
            return f"signal {self.signal}"


def pid_of(pidfd: int) -> int | None:
    """The process behind a descriptor; None when it has ended and was waited for, or is hidden."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
            text = file.read()
    except OSError:  # no descriptor to be had, or no /proc
        return None
    number = int(text.partition(b"\nPid:")[2].split(maxsplit=1)[0])
    return number if number > 0 else None


class EarlyDeaths:
    """Tells a process that cannot start from one that was killed while it did."""

    MOST = 3
    # Sent from outside, by a user or for want of memory: the next one may well live.
    MOST_KILLED = 100

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def note(self, who: str, death: Death) -> None:
        """Count deaths before a first task in a row; WorkerInitError when there are too many."""
        count = 0 if death.was_ready else self._counts.get(who, 0) + 1
        self._counts[who] = count
        most = self.MOST_KILLED if death.signal == signal.SIGKILL else self.MOST
        if count >= most:
            raise WorkerInitError(
                f"{who} died {count} times before it could take a task, last with {death.end}; "
                "run worker_init by itself to see why"
            )


class MemoryKills:
    """Tells workers that the kernel killed for want of memory from those killed by others.

    By the kernel's count of such kills in this process's memory cgroup, or on the machine where
    there is none. Each kill explains one death; one of a process that is none of ours, in the same
    cgroup, can pass for one of a worker that somebody kills later.
    """

    def __init__(self) -> None:
        self._explained = headroom.kills()

    def explain_one(self) -> bool:
        """Whether a worker that was sent SIGKILL died of this; the kernel counts, then kills."""
        if headroom.kills() <= self._explained:
            return False
        self._explained += 1
        return True


class Crew(Protocol):
    """Starts, watches and ends the processes of a pool. Nothing here blocks on a dead peer.

    Attributes:
        stuck: finds its workers that can never go on.
        beside: threads that the parent had, beside the one that forked, at the last fork.
    """

    stuck: StuckWatch
    beside: OtherThreads

    def fill(self, job: Job | None) -> None:
        """Start every slot that has no process, before a map (with its job) or at ``init``.

        Raises WorkerInitError, GpuInParentError, OSError.
        """

    def restart(self, slot: int) -> None:
        """Start a vacant slot, whose death is settled, during a map. Does not wait for it."""

    def wait(self, timeout: float | None) -> Sequence[Death]:
        """Sleep until a worker wakes the parent, one dies, or timeout seconds passed."""

    def pid(self, slot: int) -> int | None:
        """Process id of a slot's process; None where it has none, or is about to."""

    def vacant(self, slot: int) -> bool:
        """Whether a slot has no process and none on its way: nothing writes there any more."""

    def started(self, slot: int) -> bool:
        """Whether it has a process that has come to where it takes tasks."""

    def kill(self, slot: int) -> None:
        """Kill a slot's process; its death is told by ``wait``."""

    def dismiss(self) -> None:
        """A map is over and all its tasks are final."""

    def close(self) -> None:
        """End every process and wait until they are gone. Idempotent."""

    def release(self) -> None:
        """Close this process's descriptors, and nothing else: for a forked child."""
