"""Threads of a process as the kernel shows them: where each sleeps, and in whose code.

Reads ``/proc`` only, of this process or of one that it may trace (a child of the same user). The
owner of a thread is a guess, though a good one: the library that the first code address on its
stack belongs to, other than the C and C++ libraries, which every thread sleeps in.
"""

from __future__ import annotations

import bisect
import os
import re
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PROC = Path("/proc")

# Where threads begin and sleep, whoever made them.
_EVERYBODY_S = re.compile(r"(libc|libm|libdl|libpthread|libstdc\+\+|libgcc_s|ld-linux|ld)[-.]")
_PYTHON = re.compile(r"(lib)?python\d")
_STACK_BYTES = 16 * 1024  # deep enough for the frames of a lock; a read costs 10 us
_WORD = 8


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of ``/proc/PID/maps``."""

    start: int
    end: int
    executable: bool
    private: bool
    path: str


class Mappings:
    """What is mapped in a process. Raises OSError where it may not be seen, or has ended."""

    def __init__(self, folder: Path) -> None:
        self.all = [_mapping(line) for line in (folder / "maps").read_text().splitlines()]
        self._starts = [mapping.start for mapping in self.all]

    def at(self, address: int) -> Mapping | None:
        """The mapping that an address lies in."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0 or address >= self.all[index].end:
            return None
        return self.all[index]

    def files(self) -> set[str]:
        """Names of the files that are mapped, without their folders."""
        return {os.path.basename(mapping.path) for mapping in self.all if mapping.path}


def _mapping(line: str) -> Mapping:
    fields = line.split(maxsplit=5)
    start, _, end = fields[0].partition("-")
    path = fields[5] if len(fields) > 5 and fields[5].startswith("/") else ""
    return Mapping(int(start, 16), int(end, 16), fields[1][2] == "x", fields[1][3] == "p", path)


@dataclass(frozen=True, slots=True)
class Asleep:
    """A thread in a system call.

    Attributes:
        switches: how often it has gone to sleep so far. Where two looks find the same number, it
            has run no instruction in between.
        call: number of the system call; arguments: of it; stack: its stack pointer.
    """

    tid: int
    switches: int
    call: int
    arguments: tuple[int, ...]
    stack: int


def threads_of(folder: Path) -> list[Asleep | None]:
    """Every thread of the process with this folder of ``/proc``; None for one that runs.

    Raises OSError where the process may not be seen, or has ended.
    """
    return [thread_at(entry) for entry in (folder / "task").iterdir()]


def thread_at(entry: Path) -> Asleep | None:
    try:
        fields = (entry / "syscall").read_text().split()
        status = (entry / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it ended since the folder was listed
        return None
    if len(fields) < 9:  # "running", or "-1" outside of a system call
        return None
    _, _, after = status.partition("\nvoluntary_ctxt_switches:")
    call, *arguments, stack, _ = fields
    return Asleep(
        int(entry.name),
        int(after.split(maxsplit=1)[0]),
        int(call),
        tuple(int(argument, 16) for argument in arguments),
        int(stack, 16),
    )


def library_of(folder: Path, mappings: Mappings, stack: int) -> str:
    """Path of the library in which a thread sleeps, by its stack pointer; empty if not to be told.

    That of the interpreter counts: a lock of the ``threading`` module, say.
    """
    inside = mappings.at(stack)
    if inside is None:
        return ""
    try:
        with open(folder / "mem", "rb", buffering=0) as memory:
            memory.seek(stack)
            content = memory.read(min(_STACK_BYTES, inside.end - stack))
    except OSError:
        return ""
    words = memoryview(content[: len(content) // _WORD * _WORD]).cast("Q")
    for word in words:
        mapping = mappings.at(word)
        if mapping is None or not mapping.executable or not mapping.path:
            continue
        if not _EVERYBODY_S.match(os.path.basename(mapping.path)):
            return mapping.path
    return ""


def is_interpreter(path: str) -> bool:
    """Whether a library is Python's own."""
    return _PYTHON.match(os.path.basename(path)) is not None


def owner_of(folder: Path, mappings: Mappings, stack: int) -> str:
    """Name of the library in which a thread sleeps, by its stack pointer; "" if not to be told.

    "Python" where that is the interpreter itself: a lock of the ``threading`` module, say.
    """
    path = library_of(folder, mappings, stack)
    return "Python" if is_interpreter(path) else os.path.basename(path)


@dataclass(frozen=True, slots=True)
class OtherThreads:
    """The threads of this process but the calling one, at one moment; their owners are told later.

    Attributes:
        python: names of Python's.
        native: thread ids of the others.
    """

    python: tuple[str, ...] = ()
    native: tuple[int, ...] = ()

    @classmethod
    def now(cls) -> Self:
        """Costs 6 us where there is none."""
        tids = {int(name) for name in os.listdir("/proc/self/task")} - {threading.get_native_id()}
        if not tids:
            return cls()
        known = [thread for thread in threading.enumerate() if thread.native_id in tids]
        native = tids - {thread.native_id for thread in known}
        return cls(tuple(thread.name for thread in known), tuple(sorted(native)))

    def names(self) -> tuple[str, ...]:
        """Names of Python's, then owners of the others, as far as they still run."""
        owners = [owner or "a library that could not be told" for owner in _owners(self.native)]
        return (*self.python, *_counted(sorted(owners)))


def native_owners() -> list[str]:
    """Owner of each thread of this process that is not Python's, as ``owner_of`` tells it."""
    tids = {int(name) for name in os.listdir("/proc/self/task")}
    tids -= {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}
    return list(_owners(tids))


def _owners(tids: Collection[int]) -> Iterator[str]:
    if not tids:
        return
    folder = PROC / "self"
    mappings = Mappings(folder)
    for tid in tids:
        thread = thread_at(folder / "task" / str(tid))
        yield "" if thread is None else owner_of(folder, mappings, thread.stack)


def _counted(owners: list[str]) -> Iterator[str]:
    for owner in dict.fromkeys(owners):
        count = owners.count(owner)
        yield owner if count == 1 else f"{owner} ({count} threads)"
