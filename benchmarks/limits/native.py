"""Limits in C: a futex or a pipe there and back, a bare fork and wait. Built when asked for.

Guarantees: no Python runs inside what is timed, other than one call a map.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contest import Contestant

_SOURCE = Path(__file__).with_name("ping_pong.c")


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled limits; needs ``cc``, or what ``CC`` names."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "limits.so"
        compiler = os.environ.get("CC", "cc")
        flags = ["-std=gnu11", "-O2", "-Wall", "-Werror", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, _SOURCE, "-o", built], check=True)
        loaded = ctypes.CDLL(str(built))
    loaded.ping_pong_open.restype = ctypes.c_void_p
    loaded.ping_pong_run.argtypes = [ctypes.c_void_p, ctypes.c_int]
    loaded.ping_pong_other.argtypes = [ctypes.c_void_p]
    loaded.ping_pong_close.argtypes = [ctypes.c_void_p]
    return loaded


def bare_fork(rounds: int) -> Contestant:
    """``fork`` and ``waitpid`` one after another, ``rounds`` times a map."""

    @contextmanager
    def opened() -> Iterator[Callable[[], int]]:
        run: Callable[[int], int] = library().fork_and_wait
        yield lambda: run(rounds)

    return Contestant("bare fork/waitpid", opened, _expect(rounds))


class PingPong:
    """One there and back an item, for benchmarks that time each."""

    def __init__(self, other: int) -> None:
        self._other = other
        self._run = library().ping_pong_run

    def map(self, items: Sequence[Any]) -> list[Any]:
        assert self._run(self._other, len(items)) == len(items)
        return [None] * len(items)


@contextmanager
def ping_pong(by_pipe: bool, *, two_cores: bool = False) -> Iterator[PingPong]:
    """Both sides, on two different cores, or wherever the kernel puts them: mostly on one."""
    own = os.sched_getaffinity(0)
    other = library().ping_pong_open(by_pipe)
    try:
        if two_cores:
            first, second = sorted(own)[:2]
            os.sched_setaffinity(0, {first})
            os.sched_setaffinity(library().ping_pong_other(other), {second})
        yield PingPong(other)
    finally:
        os.sched_setaffinity(0, own)
        library().ping_pong_close(other)


def _expect(rounds: int) -> Callable[[int], None]:
    def check(done: int) -> None:
        assert done == rounds

    return check
