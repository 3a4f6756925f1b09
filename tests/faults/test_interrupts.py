"""Ctrl-C to the group, or SIGTERM, at random instants: out soon, one traceback, nothing left.

A real interpreter each time, as its end is part of what is tested. A segment marks each row with
the cycle, so that a program that catches the interrupt can tell another map's results.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

Rounds = Callable[[int, int], int]
Within = Callable[[float], float]
End = Callable[[subprocess.Popen[str]], tuple[int, str]]
OUT_AFTER_S = 2.0

PROGRAM = """
import signal, sys, time
from ringwalk import TaskMapper, WalkerBlock, WorkerMapper
Kind = {"WorkerMapper": WorkerMapper, "TaskMapper": TaskMapper}[sys.argv[1]]
if sys.argv[2] == "handler":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))

def work(row, cycle):
    row.cycle = cycle
    return row.index, cycle

def run():
    cycle = 0
    with WalkerBlock(8, cycle="i8") as block:
        print("running", flush=True)
        while True:
            with Kind(work, num_workers=2) as mapper:
                for _ in range(20):
                    cycle += 1
                    assert mapper.map(block, [cycle] * 8) == [(k, cycle) for k in range(8)]
                    assert (block["cycle"] == cycle).all()

run()
"""

GOES_ON = """
import itertools, sys
from ringwalk import TaskMapper, WorkerMapper
Kind = {"WorkerMapper": WorkerMapper, "TaskMapper": TaskMapper}[sys.argv[1]]

def work(k, cycle):
    return k, cycle

cycles = itertools.count()
with Kind(work, num_workers=2) as mapper:
    print("running", flush=True)
    for _ in range(int(sys.argv[2])):
        try:
            print("mapping", flush=True)
            while True:
                cycle = next(cycles)
                results = mapper.map(range(8), [cycle] * 8)
                assert results == [(k, cycle) for k in range(8)], (cycle, results)
        except KeyboardInterrupt:
            print("caught", flush=True)
"""

KINDS = pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


def idle(mean_s: float, chance: random.Random) -> None:
    """Until the random instant; nothing is synchronised by it."""
    select.select([], [], [], chance.expovariate(1 / mean_s))


def tracebacks(errors: str) -> int:
    """How many exceptions were reported, with that which one came in the handling of if any.

    pathlib, for one, asks for an attribute that is not there yet and catches the error: a Ctrl-C in
    there is reported together with it.
    """
    chained = errors.count("During handling of the above exception, another exception occurred")
    return errors.count("Traceback (most recent call last)") - chained


@pytest.fixture
def end(within: Within, session_of: Callable[[int], Any]) -> End:
    def end(process: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code and errors of a program that was told to end; nothing of it may be left."""
        # Python's own resource tracker and, after SIGTERM, the mapper's processes end later.
        session_of(process.pid).wait_for_its_end(within(OUT_AFTER_S))
        _, errors = process.communicate()
        ours = f"ringwalk-{process.pid}-"
        assert [name for name in os.listdir("/dev/shm") if name.startswith(ours)] == []
        return process.returncode, errors

    return end


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c(kind: str, presses: int, rounds: Rounds, end: End) -> None:
    chance = random.Random(f"{kind} {presses}")
    for _ in range(rounds(13, 125)):
        process = start(PROGRAM, kind, "default")
        idle(0.05, chance)
        for _ in range(presses):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            idle(0.002, chance)
        code, errors = end(process)
        assert code in (-signal.SIGINT, 1), errors
        assert "KeyboardInterrupt" in errors
        assert "ringwalk-template" not in errors
        if presses == 1:
            assert errors.rstrip().endswith("KeyboardInterrupt"), errors
            assert tracebacks(errors) == 1, errors
        else:
            # The second may meet the handling of the first, or Python's own exit, which writes
            # what it ignores, or that it lost its stderr.
            assert tracebacks(errors) <= presses, errors


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("way", ["default", "handler"])
def test_sigterm(kind: str, way: str, rounds: Rounds, end: End) -> None:
    chance = random.Random(f"{kind} {way}")
    for _ in range(rounds(6, 60)):
        process = start(PROGRAM, kind, way)
        idle(0.05, chance)
        process.send_signal(signal.SIGTERM)
        assert end(process) == (7 if way == "handler" else -signal.SIGTERM, "")


@pytest.mark.slow
@KINDS
def test_maps_after_ctrl_c_return_their_own_results(kind: str, rounds: Rounds, end: End) -> None:
    chance = random.Random(kind)
    presses = rounds(50, 500)
    process = start(GOES_ON, kind, str(presses))
    assert process.stdout is not None
    for _ in range(presses):
        assert process.stdout.readline() == "mapping\n"
        idle(0.02, chance)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "caught\n", process.communicate()[1]
    assert end(process) == (0, "")
