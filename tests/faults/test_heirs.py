"""Processes that anybody forks, in any way, change nothing that their parent holds or uses.

``heirs.py`` forks, ``holdings.py`` holds: results in every place where a program can keep some,
checksummed at every turn, and one of each front.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PROGRAM = Path(__file__).with_name("heirs.py")


def run(*arguments: object, patience: float) -> str:
    """What the program prints. One that hangs is ended with all that it started."""
    process = subprocess.Popen(
        [sys.executable, PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        raise AssertionError(f"hangs after:\n{output}\n{errors}") from None
    assert (process.returncode, errors) == (0, ""), output + errors
    return output


def test_no_forked_process_changes_what_its_parent_has(tmp_path: Path) -> None:
    output = run("each", tmp_path, patience=100)
    told = [line for line in output.splitlines() if line.endswith("wrong")]
    assert len(told) == 3 * 8 + 1
    assert all(line.endswith(": 0 wrong") for line in told), output


def test_results_stay_right_beside_forks_and_deaths(
    tmp_path: Path, rounds: Callable[[int, int], int]
) -> None:
    seconds = rounds(15, 600)
    output = run("soak", tmp_path, seconds, 1, patience=seconds + 80)
    assert output.splitlines()[-1].startswith("0 wrong in "), output
