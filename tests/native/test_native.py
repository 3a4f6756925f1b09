"""The C core under threads, plain and under the sanitizers.

Each ``<concept>_validate.c`` lets threads stand in for processes, checks that concept's promises
and prints what it counted; ``scribble_validate.c`` has one thread and a careless neighbour.
Suppressions: none.
"""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parent
CORE = NATIVE.parents[1] / "ext" / "csrc"
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-g", "-pthread", f"-I{CORE}"]

BUILDS = {
    "plain": [],
    "asan-ubsan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}

COUNTED = {
    "ring": "pushed=100000 popped=100000 missing=0 twice=0 disorder=0",
    "eventcount": "tokens=14000 taken=14000 slept=1 waiters=0",
    "board": "tasks=96000 ended=96000 twice=0 torn=0 slept=1",
    "heap": "results=12000 received=12000 torn=0 held=0 reused=1",
    "scribble": "mutations=8000 outside=0 refused=1",
}
# Scribbling has one thread: ThreadSanitizer has nothing to see there.
RUNS = [
    pytest.param(build, concept, id=f"{concept}-{build}")
    for build in BUILDS
    for concept in COUNTED
    if (build, concept) != ("tsan", "scribble")
]


def run(program: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:
        # ThreadSanitizer of gcc < 14 cannot run with as many random bits as some kernels use.
        fixed = ["setarch", platform.machine(), "-R", str(program)]
        done = subprocess.run(fixed, capture_output=True, text=True, check=False)
    return done


@pytest.mark.slow
@pytest.mark.parametrize(("build", "concept"), RUNS)
def test_promises_hold_under_threads(build: str, concept: str, tmp_path: Path) -> None:
    program = tmp_path / concept
    sources = [NATIVE / f"{concept}_validate.c", *sorted(CORE.glob("*.c"))]
    subprocess.run(["gcc", *FLAGS, *BUILDS[build], *sources, "-o", program], check=True)
    done = run(program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"{concept} {COUNTED[concept]}"
