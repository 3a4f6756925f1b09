"""Other threads fork all the time, by os.fork, multiprocessing, subprocess, beside each front."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fronts
import pytest

PROGRAM = Path(__file__).with_name("foreign_forks.py")


def start(front: str, rounds: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, PROGRAM, front, str(rounds)],
        env={**os.environ, "PYTHONPATH": str(Path(fronts.__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize("front", fronts.FORKING)
def test_forks_of_other_threads_hang_nothing(front: str, rounds: Callable[[int, int], int]) -> None:
    wanted = rounds(5, 500)
    output, errors = start(front, wanted).communicate()
    assert (output, errors) == (f"right: {wanted}\n", "")


@pytest.mark.parametrize("front", fronts.FORKING)
def test_ctrl_c_ends_what_runs_beside_forks(front: str, rounds: Callable[[int, int], int]) -> None:
    chance = random.Random(front)
    for _ in range(rounds(1, 50)):
        process = start(front, 0)
        select.select([], [], [], chance.uniform(0, 0.5))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGINT, errors
        # The threads that fork may complain of the interpreter's end after that.
        assert "\nKeyboardInterrupt\n" in errors
