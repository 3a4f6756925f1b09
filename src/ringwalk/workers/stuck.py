"""Find workers that can never go on: every thread waits for a lock that only they could release.

A forked process has the locks of its parent's other threads, and not the threads. What waits for
such a lock sleeps for ever and uses no processor time, as a segment that waits for a file does. Two
looks at the kernel's account of each thread tell them apart::

    every thread of the process is in FUTEX_WAIT without a timeout
    on an address in a private mapping           nobody outside of the process can wake it
    and has run nothing between the two looks    nobody inside of it does

One thing is left: a signal handler in the process could release the lock. Where it has one, it
"may be stuck".

Guarantees: looks only at what has run one task for ``FIRST_LOOK_S``; ends nothing. A process that
may not be looked at (``harden=True``, a kernel without ``/proc/PID/syscall``) is never accused.
"""

from __future__ import annotations

import platform
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ringwalk._core.board import Board
from ringwalk.errors import RingwalkWarning
from ringwalk.observe.stuck import StuckWorker
from ringwalk.workers.native_threads import (
    PROC,
    Asleep,
    Mappings,
    OtherThreads,
    owner_of,
    threads_of,
)

# How long a task must have run before its worker is looked at, and how long after it is named.
FIRST_LOOK_S = 25.0
BETWEEN_LOOKS_S = 5.0

_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), -1)
_FUTEX_COMMAND = 0x7F  # without its flags: FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME
_FUTEX_WAITS = (0, 9)  # FUTEX_WAIT, FUTEX_WAIT_BITSET
# Signals whose handlers wake nobody who sleeps: they tell of what a running thread did, or used.
# SIGINT has Python's own handler everywhere, SIGWINCH readline's; 32 and 33 are glibc's.
_HARMLESS_SIGNALS = {
    signal.SIGINT,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGABRT,
    signal.SIGPROF,
    signal.SIGVTALRM,
    signal.SIGXCPU,
    signal.SIGWINCH,
    32,
    33,
}


class _Crew(Protocol):
    """What is asked of a pool's processes: see ``Crew``."""

    @property
    def beside(self) -> OtherThreads: ...
    def pid(self, slot: int) -> int | None: ...
    def vacant(self, slot: int) -> bool: ...
    def started(self, slot: int) -> bool: ...


@dataclass(slots=True)
class _Watched:
    """What a worker does, since when it was seen to, and how it slept when it was last looked at.

    Attributes:
        what: its task and when this began; (-1, 0) while it starts.
    """

    what: tuple[int, int]
    since: float
    next_look: float
    asleep: _Sleeping | None = None
    told: bool = False


@dataclass(frozen=True, slots=True)
class _Sleeping:
    """A process whose threads all wait for locks of its own."""

    pid: int
    threads: tuple[Asleep, ...]


class StuckWatch:
    """Looks after the workers of a pool, as often as the parent looks around."""

    def __init__(self, board: Board, num_workers: int) -> None:
        self._board = board
        self._num_workers = num_workers
        self._watched: dict[int, _Watched] = {}
        self._next_round = 0.0

    def look(self, crew: _Crew, name: Callable[[int], str]) -> list[StuckWorker]:
        """Those that were found stuck by now and not before. Cheap: at most once a second.

        Args:
            name: says what the task of a number is.
        """
        now = time.monotonic()
        if now < self._next_round:
            return []
        self._next_round = now + min(1.0, BETWEEN_LOOKS_S)
        found = []
        for slot in range(self._num_workers):
            what = self._what(crew, slot)
            if what is None:
                self._watched.pop(slot, None)
                continue
            watched = self._watched.get(slot)
            if watched is None or watched.what != what:
                self._watched[slot] = _Watched(what, now, now + FIRST_LOOK_S)
            elif not watched.told and now >= watched.next_look:
                watched.next_look = now + BETWEEN_LOOKS_S
                before, watched.asleep = watched.asleep, _asleep(crew, slot)
                if watched.asleep is not None and before == watched.asleep:
                    watched.told = True
                    found.append(_describe(watched.asleep, slot, _doing(what, name), crew.beside))
        return found

    def examine(self, crew: _Crew, slot: int, name: Callable[[int], str]) -> StuckWorker | None:
        """Whether a worker is stuck right now, by two looks in a row."""
        what = self._what(crew, slot)
        first = _asleep(crew, slot)
        if what is None or first is None or _asleep(crew, slot) != first:
            return None
        return _describe(first, slot, _doing(what, name), crew.beside)

    def _what(self, crew: _Crew, slot: int) -> tuple[int, int] | None:
        task = self._board.running_on(slot)
        if task is not None:
            return task, self._board.started_ns(task)
        return None if crew.started(slot) or crew.vacant(slot) else (-1, 0)


def warn_of(found: Sequence[StuckWorker]) -> None:
    """Warn of stuck workers."""
    for worker in found:
        warnings.warn(f"{worker.text} {worker.advice}", RingwalkWarning, stacklevel=2)


def _doing(what: tuple[int, int], name: Callable[[int], str]) -> str:
    return "The start of a worker" if what[0] < 0 else name(what[0])


def _asleep(crew: _Crew, slot: int) -> _Sleeping | None:
    pid = crew.pid(slot)
    if pid is None:
        return None
    try:
        # A lane waits for the child that runs its task.
        children = (PROC / f"{pid}/task/{pid}/children").read_text().split()
        for candidate in (*map(int, children), pid):
            threads = _all_asleep(PROC / str(candidate))
            if threads is not None:
                return _Sleeping(candidate, threads)
    except OSError:  # it ended, or may not be looked at
        pass
    return None


def _all_asleep(folder: Path) -> tuple[Asleep, ...] | None:
    """Every thread, if all wait for locks of their own process; else None."""
    threads = []
    for thread in threads_of(folder):
        if thread is None or not _waits_for_ever(thread):
            return None
        threads.append(thread)
    mappings = Mappings(folder)
    for thread in threads:
        mapping = mappings.at(thread.arguments[0])
        if mapping is None or not mapping.private:
            return None
    return tuple(threads) or None


def _waits_for_ever(thread: Asleep) -> bool:
    _, operation, _, timeout, *_ = thread.arguments
    waits = thread.call == _FUTEX and operation & _FUTEX_COMMAND in _FUTEX_WAITS
    return waits and timeout == 0


def _describe(asleep: _Sleeping, slot: int, doing: str, beside: OtherThreads) -> StuckWorker:
    folder = PROC / str(asleep.pid)
    libraries: tuple[str, ...] = ()
    handled: tuple[str, ...] = ()
    try:
        mappings = Mappings(folder)
        owners = (owner_of(folder, mappings, thread.stack) for thread in asleep.threads)
        libraries = tuple(dict.fromkeys(filter(None, owners)))
        handled = _handled_signals(folder)
    except OSError:  # killed meanwhile
        pass
    return StuckWorker(slot, asleep.pid, doing, libraries, beside.names(), handled)


def _handled_signals(folder: Path) -> tuple[str, ...]:
    """Names of the signals with a handler that might wake a thread."""
    _, _, after = (folder / "status").read_text().partition("\nSigCgt:")
    caught = int(after.split(maxsplit=1)[0], 16)
    numbers = {number for number in range(1, 65) if caught >> (number - 1) & 1}
    return tuple(_signal_name(number) for number in sorted(numbers - _HARMLESS_SIGNALS))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"
