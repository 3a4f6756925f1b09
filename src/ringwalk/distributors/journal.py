"""What happened to commands, as records of a fixed size in a memory file.

The supervisor appends, the caller reads at its leisure. Neither waits for the other: a caller that
computes for an hour finds all of it afterwards, and one that is interrupted in the middle of
reading (an exception from a signal handler) reads the same record again. The file outlives the
supervisor, so what it wrote before a SIGKILL is known.

    goal | record | record | ...

The goal is the caller's: to be woken when there are so many records. Waking it for each costs more
than starting a command. Both sides write first and then look, so that one of them sees the other.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ringwalk.distributors.exit_info import ExitInfo

SINGLE = -1  # the step of a command that is not part of an array
_RECORD = struct.Struct("<Bxxxiqq??6xddddq")
_GOAL = struct.Struct("<q")
pack = _RECORD.pack  # the fields of a Record, in their order, as they are written
RECORD_SIZE = _RECORD.size
START = _GOAL.size  # the offset of the first record
# Mostly one record is new, and a large buffer costs its caller page faults.
_FEW, _MANY = 32 * RECORD_SIZE, 4096 * RECORD_SIZE


class Kind:
    """What a record tells. Plain numbers, since a look into an enumeration takes 0.3 us."""

    ENDED = 1  # value: the status of waitpid
    REFUSED = 2  # value: errno; it could not be started
    DROPPED = 3  # taken from the queue
    LOST = 4  # it ended, its status went with a process that was killed
    HEARD = 5  # value: the message up to which all were carried out


class Record(NamedTuple):
    """One event. Times in seconds since the epoch, memory in bytes."""

    kind: int
    value: int
    job: int = 0
    step: int = SINGLE
    terminated: bool = False
    warm: bool = False
    start: float = 0.0
    end: float = 0.0
    user: float = 0.0
    system: float = 0.0
    max_rss: int = 0

    @classmethod
    def lost(cls, id: str) -> Record:
        """Of a command that ended with its supervisor, just now."""
        job, _, step = id.partition("_")
        return cls(Kind.LOST, 0, int(job), int(step) if step else SINGLE, end=time.time())

    @property
    def id(self) -> str:
        """The command's."""
        return str(self.job) if self.step == SINGLE else f"{self.job}_{self.step}"

    def exit_info(self) -> ExitInfo:
        """The record in the caller's words. Not for ``HEARD``."""
        code = signal = error = None
        if self.kind == Kind.ENDED:
            status = os.waitstatus_to_exitcode(self.value)
            code, signal = (status, None) if status >= 0 else (None, -status)
        elif self.kind == Kind.REFUSED:
            error = f"could not be started: {os.strerror(self.value)}"
        elif self.kind == Kind.LOST:
            error = "its exit status is lost: the process that watched over it was killed"
        return ExitInfo(self.id, code, signal, error, *self[4:])


def append(fd: int, packed: Iterable[bytes]) -> None:
    """Write records in one piece at the file's end. One process writes at a time."""
    data = b"".join(packed)
    while data:
        data = data[os.write(fd, data) :]


def set_goal(fd: int, offset: int, further: int) -> None:
    """Ask to be woken when there are ``further`` records from ``offset`` on."""
    os.pwrite(fd, _GOAL.pack(offset + further * RECORD_SIZE), 0)


def goal_reached(fd: int) -> bool:
    """Whether the caller is to be woken."""
    (goal,) = _GOAL.unpack(os.pread(fd, _GOAL.size, 0))
    return bool(os.lseek(fd, 0, os.SEEK_CUR) >= goal)


def holds(fd: int, offset: int, further: int) -> bool:
    """Whether there are ``further`` records from ``offset`` on."""
    return len(os.pread(fd, 1, offset + further * RECORD_SIZE - 1)) == 1


def read(fd: int, offset: int) -> Iterator[Record]:
    """The records from ``offset`` on."""
    most = _FEW
    while data := os.pread(fd, most, offset):
        whole = len(data) // RECORD_SIZE * RECORD_SIZE
        yield from map(Record._make, _RECORD.iter_unpack(data[:whole]))
        if len(data) < most:
            return
        offset += whole
        most = _MANY
