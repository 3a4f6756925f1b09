"""What any pool has to do with arrays: the caller copies them, other processes compute.

Two forked processes, one piece of shared memory with a place for each walker's argument and one for
its result, touched before. The caller copies an argument in and writes the walker's number to a
pipe; whoever reads it adds one, straight into the result's place, and writes the number back::

    caller: array --copy--> arguments[k], k --pipe--> process: results[k] = arguments[k] + 1

Does not: find places, encode anything, survive a death, or keep results beyond the next map.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from benchmarks.contest import WORKERS, Contestant
from benchmarks.segments import Array


def copy_and_compute(
    walkers: int,
    make: Callable[[], Sequence[Array]],
    check: Callable[[Sequence[Array], list[Array]], None],
) -> Contestant:
    """Copy each walker's float64 state to two processes that add one to it. Up to 256 walkers."""

    @contextmanager
    def opened() -> Iterator[Callable[[], tuple[Sequence[Array], list[Array]]]]:
        states = make()
        shared = mmap.mmap(-1, 2 * walkers * states[0].nbytes)
        places = np.frombuffer(shared).reshape(2, walkers, -1)
        places[:] = 0.0
        (told, tell), (heard, hear) = os.pipe(), os.pipe()
        children = [_fork(places, told, tell, hear) for _ in range(WORKERS)]

        def run() -> tuple[Sequence[Array], list[Array]]:
            for number, state in enumerate(states):
                np.copyto(places[0, number], state)
                os.write(tell, bytes([number]))
            left = walkers
            while left:
                left -= len(os.read(heard, left))
            return states, list(places[1])

        try:
            yield run
        finally:
            for fd in (tell, told, heard, hear):
                os.close(fd)
            for child in children:
                os.waitpid(child, 0)

    return Contestant("copy and compute", opened, lambda outcome: check(*outcome))


def _fork(
    places: np.ndarray[tuple[int, int, int], np.dtype[np.float64]], told: int, tell: int, hear: int
) -> int:
    child = os.fork()
    if child == 0:
        os.close(tell)  # or the pipe would never end
        while number := os.read(told, 1):
            np.add(places[0, number[0]], 1.0, out=places[1, number[0]])
            os.write(hear, number)
        os._exit(0)
    return child
