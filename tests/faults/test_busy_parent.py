"""Other threads of the parent are in BLAS, OpenMP, malloc, Python while it forks.

Every map must be right, with segments that use the same library, and the parent's threads must go
on; or it is refused with the reason. A hang would be ended by the program's own watchdog.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Forks of the parent that one map takes: the template, or two lanes.
KINDS = {"WorkerMapper": 1, "TaskMapper": 2}
LOADS = ("blas", "openmp", "malloc", "python")


def run(kind: str, load: str, busy_library: Path, maps: int) -> list[str]:
    arguments = [sys.executable, HERE / "busy_parent.py", kind, load, busy_library, str(maps)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("load", LOADS)
def test_forks_beside_busy_threads(
    kind: str, load: str, busy_library: Path, rounds: Callable[[int, int], int]
) -> None:
    maps = rounds(14, 250) // KINDS[kind]
    assert run(kind, load, busy_library, maps) == [f"right: {maps}"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_thread_that_never_leaves_native_code_is_a_reason_to_refuse(
    kind: str, busy_library: Path
) -> None:
    refused, *rest = run(kind, "loop", busy_library, 1)
    assert rest == ["right: 0"]
    assert refused.startswith("refused: thread ")
    assert "has been computing outside Python for 1 s" in refused
    assert "start_method='spawn'" in refused
