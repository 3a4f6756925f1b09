"""Limit: processes that have their share of the work before it begins, and are told when.

What is left is what starting, sleeping and ending cost the segments themselves on this machine, and
waking each process and its parent once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.contest import Contestant

SHARED_OUT = "shared out before"


def shared_out(func: Callable[[Any], Any], shares: Sequence[Sequence[Any]]) -> Contestant:
    """Fork a process a share; a map has each call the function for all of its share."""

    @contextmanager
    def opened() -> Iterator[Callable[[], bytes]]:
        back, theirs = os.pipe()
        starts, pids = [], []
        for share in shares:
            ours, start = os.pipe()
            pid = os.fork()
            if pid == 0:
                _serve(func, share, ours, theirs)
            os.close(ours)
            starts.append(start)
            pids.append(pid)

        def run() -> bytes:
            for start in starts:
                os.write(start, b"x")
            answers = b""
            while len(answers) < len(shares):
                answers += os.read(back, len(shares))
            return answers

        try:
            yield run
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            for fd in (back, theirs, *starts):
                os.close(fd)

    def check(answers: bytes) -> None:
        assert answers == b"y" * len(shares)

    return Contestant(SHARED_OUT, opened, check)


def _serve(func: Callable[[Any], Any], share: Sequence[Any], start: int, end: int) -> None:
    while os.read(start, 1):
        os.write(end, b"y" if [func(item) for item in share] == list(share) else b"n")
    os._exit(0)
