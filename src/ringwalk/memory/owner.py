"""Who made a piece of named shared memory, and whether that process is still there.

A process id alone does not say it, ids are used again: the record holds the start time as well,
and the pid namespace, because containers may share one ``/dev/shm`` and not their process ids.

Guarantee: ``is_dead`` is true only for a process that has certainly ended. Where this process
cannot tell (another namespace, a hidden ``/proc`` entry) the owner counts as alive.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Owner:
    """One process, for as long as the machine runs.

    Attributes:
        pid: process id, as seen inside ``namespace``.
        started: field 22 of ``/proc/<pid>/stat``, in clock ticks after boot.
        namespace: inode of the pid namespace.
    """

    pid: int
    started: int
    namespace: int

    @classmethod
    def current(cls) -> Owner:
        """The calling process. Ask again after a fork."""
        pid = os.getpid()
        return cls(pid, _Status.of(pid).started, _own_namespace())

    def is_dead(self) -> bool:
        """Whether the process has certainly ended; a zombie has."""
        if self.namespace != _own_namespace():
            return False
        try:
            os.kill(self.pid, 0)
            status = _Status.of(self.pid)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            # Another user's process, one that hidepid hides from us, or a damaged record.
            return False
        return status.started != self.started or status.ended


@dataclass(frozen=True, slots=True)
class _Status:
    """The part of ``/proc/<pid>/stat`` that tells one process from the next with its id."""

    started: int
    ended: bool

    @classmethod
    def of(cls, pid: int) -> _Status:
        # The command name is in parentheses and may itself hold spaces and parentheses.
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *numbers = text.rpartition(")")[2].split()
        threads, started = int(numbers[16]), int(numbers[18])
        # A leader that called pthread_exit shows Z while its other threads still use the memory.
        return cls(started, ended=state in {"Z", "X"} and threads <= 1)


def _own_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino
