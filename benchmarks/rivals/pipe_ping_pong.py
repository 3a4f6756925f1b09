"""The least that a task in another Python process can take: a byte there and a byte back.

Two pipes and ``os.read``/``os.write``; nothing is pickled, no function is called. The kernel puts
both processes on one core, where they take turns and nothing runs side by side, or they are held
on two.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class PingPong:
    """Sends one byte an item and waits for it."""

    def __init__(self, there: int, back: int) -> None:
        self._there = there
        self._back = back

    def map(self, items: Sequence[Any]) -> list[Any]:
        for _ in items:
            os.write(self._there, b"x")
            os.read(self._back, 1)
        return [None] * len(items)


@contextmanager
def ping_pong(*, two_cores: bool = False) -> Iterator[PingPong]:
    own = os.sched_getaffinity(0)
    ours, there = os.pipe()
    back, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        while True:
            os.write(theirs, os.read(ours, 1))
    try:
        if two_cores:
            first, second = sorted(own)[:2]
            os.sched_setaffinity(0, {first})
            os.sched_setaffinity(pid, {second})
        yield PingPong(there, back)
    finally:
        os.sched_setaffinity(0, own)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for fd in (ours, there, back, theirs):
            os.close(fd)
