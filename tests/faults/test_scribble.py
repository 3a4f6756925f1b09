"""A segment writes over memory that is not its own: the parent must come through it.

Random bytes of the pool's control words are flipped, once under sanitizers against the C calls,
once by real segments against a parent that maps. Wrong data is allowed where data was written
over; a crash, an access outside of the arena, another exception, or a wait without end is not.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "ext" / "csrc"
NATIVE = ROOT / "tests" / "native"
SANITIZED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
Rounds = Callable[[int, int], int]


@pytest.mark.slow
def test_no_byte_leads_outside_of_the_arena(tmp_path: Path, rounds: Rounds) -> None:
    program = tmp_path / "scribble"
    sources = [NATIVE / "scribble_validate.c", *sorted(CORE.glob("*.c"))]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-g", "-pthread", f"-I{CORE}"]
    subprocess.run(["gcc", *flags, *SANITIZED, *sources, "-o", program], check=True)
    mutations = rounds(10_000, 1_000_000)
    done = subprocess.run([program, str(mutations)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"scribble mutations={mutations} outside=0 refused=1\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["WorkerMapper", "TaskMapper"])
def test_a_map_comes_back_or_raises(kind: str, rounds: Rounds) -> None:
    maps = rounds(12, 500)
    program = [sys.executable, str(Path(__file__).with_name("scribbler.py")), kind, str(maps), "1"]
    # Workers that are written over end as they may, and say so.
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.fullmatch(r"came_back=(\d+) raised=(\d+)\n", done.stdout)
    assert found is not None
    assert int(found[1]) + int(found[2]) == maps
    assert int(found[2]) > 0
