"""One poisonous walker among a thousand: 999 results, one error that names it, and no other blame.

Whatever the poison does to its process, nobody else's attempt is lost, rows of the good ones can
be kept, and the next map has its own results and nothing of this one.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from ringwalk import MapError, Mapper, Row, SegmentError, WalkerBlock, WorkerDied, WorkerMapper

POISON = 117


def segfault() -> None:
    ctypes.string_at(0)


def overflow_the_stack() -> None:
    # Through C at each level, and with a small stack: Python's own frames are elsewhere.
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, resource.RLIM_INFINITY))
    sys.setrecursionlimit(10**9)
    deeper = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: deeper())
    deeper()


def die_as_of_want_of_memory() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # what the kernel sends


def run_into_the_memory_limit() -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, limits[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@dataclass(frozen=True)
class Poison:
    act: Callable[[], object]
    exitcode: int | None = None
    signal: int | None = None
    raises: type[Exception] | None = None


POISONS = {
    "segfault": Poison(segfault, signal=signal.SIGSEGV),
    "abort": Poison(os.abort, signal=signal.SIGABRT),
    "_exit": Poison(lambda: os._exit(3), exitcode=3),
    "sys.exit": Poison(lambda: sys.exit(4), exitcode=4),
    "stack overflow": Poison(overflow_the_stack, signal=signal.SIGSEGV),
    "memory limit": Poison(run_into_the_memory_limit, raises=MemoryError),
    "out of memory": Poison(die_as_of_want_of_memory, signal=signal.SIGKILL),
}


def swallow(poison: Poison) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    poison.act()


def check_blame(error: MapError, poison: Poison) -> None:
    assert error.walker == POISON
    assert list(error.errors) == [POISON]
    if poison.raises is not None:
        assert isinstance(error, SegmentError)
        assert isinstance(error.__cause__, poison.raises)
        return
    assert isinstance(error, WorkerDied)
    assert (error.exitcode, error.signal, error.attempts) == (poison.exitcode, poison.signal, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", POISONS)
def test_one_among_a_thousand(
    process_mapper: type[Mapper], kind: str, rounds: Callable[[int, int], int]
) -> None:
    poison = POISONS[kind]
    # A task process costs some milliseconds beside a big parent as this one.
    walkers, cycles = (1000, 100) if process_mapper is WorkerMapper else (rounds(150, 1000), 10)

    def segment(row: Row, note: list[int], poisonous: bool) -> tuple[int, list[int]]:
        row.x += 1
        if poisonous and row.index == POISON:
            swallow(poison)
        return row.index, note

    with (
        WalkerBlock(walkers, x=((10,), "i8")) as block,
        WalkerBlock(20, x=((10,), "i8")) as other,
        process_mapper(segment, num_workers=2, on_error="finish") as mapper,
    ):
        expected = np.zeros((walkers, 10), "i8")
        for cycle in range(rounds(1, cycles)):
            notes = [[k, cycle] for k in range(walkers)]
            with pytest.raises(MapError) as caught:
                mapper.map(block, notes, [True] * walkers)
            check_blame(caught.value, poison)
            good = {k: (k, notes[k]) for k in range(walkers) if k != POISON}
            assert caught.value.results == good
            assert np.array_equal(block["x"], expected)  # as it was
            block.keep(caught.value.completed)
            expected += 1
            expected[POISON] -= 1
            assert np.array_equal(block["x"], expected)

            again = mapper.map(other, [[-cycle]] * 20, [False] * 20)
            assert again == [(k, [-cycle]) for k in range(20)]
            assert (other["x"] == cycle + 1).all()
