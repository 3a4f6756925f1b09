"""Every front ends with its program, whatever ends that, and whatever else hangs on the exit."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fronts
import pytest

PROGRAM = Path(__file__).with_name("ends.py")
ENDS = {"return": 0, "raise": 1, "exit": 3, "SIGINT": -signal.SIGINT, "SIGTERM": -signal.SIGTERM}
ORDERS = ("finalize first", "multiprocessing first", "finalize last", "pools of others")
SPAWNED = list(itertools.product(fronts.SPAWNING, ("spawn", "forkserver")))
OPENED = [*((front, "fork") for front in fronts.ALL), *SPAWNED]
# Workers of the standard library's pools stay when a signal ends their parent.
ALL = sorted({*itertools.product(ENDS, ORDERS)} - {("SIGTERM", "pools of others")})


def end_of(front: str, method: str, end: str, order: str, session_of: Any) -> str:
    """What is wrong with how the program ended; nothing if it is empty."""
    program = subprocess.Popen(
        [sys.executable, PROGRAM, front, method, end, order],
        env={**os.environ, "PYTHONPATH": str(Path(fronts.__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    if end.startswith("SIG") and program.stdout.readline():
        program.send_signal(signal.Signals[end])
    try:
        _, errors = program.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        _, errors = program.communicate()
        return f"{end}, {order}: hung\n{errors}"
    last = {"raise": "ValueError: reporter failed", "SIGINT": "KeyboardInterrupt"}.get(end, "")
    session_of(program.pid).wait_for_its_end(10)
    if program.returncode != ENDS[end] or not errors.rstrip().endswith(last):
        return f"{end}, {order}: {program.returncode}\n{errors}"
    if not last and errors:
        return f"{end}, {order}: said\n{errors}"
    return ""


@pytest.mark.parametrize(("front", "method"), OPENED, ids=map("-".join, OPENED))
def test_a_program_ends(
    front: str, method: str, session_of: Any, rounds: Callable[[int, int], int]
) -> None:
    # In each run three of a front, which over all fronts are all of them.
    turn = OPENED.index((front, method))
    some = [ALL[(7 * k + turn) % len(ALL)] for k in range(3)]
    cases = ALL if rounds(0, 1) else some
    with ThreadPoolExecutor(4) as threads:
        wrong = list(threads.map(lambda case: end_of(front, method, *case, session_of), cases))
    assert not any(wrong), "\n".join(wrong)
