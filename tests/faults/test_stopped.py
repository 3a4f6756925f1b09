"""A template or supervisor is stopped, then the parent is SIGKILLed: nothing is left of either."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fronts
import pytest

PROGRAM = Path(__file__).with_name("stopped.py")
METHODS = [
    *itertools.product(("WorkerMapper",), ("fork", "spawn", "forkserver")),
    ("Executor", "fork"),
    ("CommandDistributor", "fork"),
]


@pytest.mark.parametrize("thread", ["main", "helper"])
@pytest.mark.parametrize(("front", "method"), METHODS, ids=map("-".join, METHODS))
def test_a_stopped_process_goes_with_its_parent(
    front: str, method: str, thread: str, session_of: Any
) -> None:
    program = subprocess.Popen(
        [sys.executable, PROGRAM, front, method, thread],
        env={**os.environ, "PYTHONPATH": str(Path(fronts.__file__).parent)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with program:
        assert program.stdout is not None
        helper = int(program.stdout.readline())
        sessions = {os.getsid(helper), program.pid}  # a supervisor has one of its own
        os.kill(helper, signal.SIGSTOP)
        program.kill()
    for leader in sessions:
        session_of(leader).wait_for_its_end(10)
