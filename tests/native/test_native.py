"""The C core under threads, plain, under the sanitizers, and as aarch64 code in an emulator.

Each ``<concept>_validate.c`` lets threads stand in for processes, checks that concept's promises
and prints what it counted.
Suppressions: none.
"""

from __future__ import annotations

import platform
import shutil
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
    "spawn": "begun=540 failed=180 refused=180 left=0",
}
CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
# A process that shares memory and is no thread: ThreadSanitizer takes it for a fork and marks the
# parent's memory as a child's, the emulator refuses it.
THREADS_ONLY = [concept for concept in COUNTED if concept != "spawn"]
RUNS = [
    pytest.param(flags, concept, id=f"{concept}-{flags}")
    for flags in BUILDS
    for concept in (THREADS_ONLY if flags == "tsan" else COUNTED)
]


def build(compiler: str, flags: list[str], concept: str, folder: Path) -> Path:
    program = folder / concept
    sources = [NATIVE / f"{concept}_validate.c", *sorted(CORE.glob("*.c"))]
    subprocess.run([compiler, *FLAGS, *flags, *sources, "-o", program], check=True)
    return program


def run(program: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    if "unexpected memory mapping" in done.stderr:
        # ThreadSanitizer of gcc < 14 cannot run with as many random bits as some kernels use.
        fixed = ["setarch", platform.machine(), "-R", str(program)]
        done = subprocess.run(fixed, capture_output=True, text=True, check=False)
    return done


def check(concept: str, done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"{concept} {COUNTED[concept]}"


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "concept"), RUNS)
def test_promises_hold_under_threads(flags: str, concept: str, tmp_path: Path) -> None:
    check(concept, run(build("gcc", BUILDS[flags], concept, tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("concept", THREADS_ONLY)
def test_promises_hold_in_aarch64_code(concept: str, tmp_path: Path) -> None:
    if platform.machine() == "aarch64":
        pytest.skip("this machine runs aarch64 code in all other tests")
    for tool in (CROSS, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed; on Debian, .ci/packages as root does it")
    program = build(CROSS, ["-static"], concept, tmp_path)
    emulated = [EMULATOR, program]
    check(concept, subprocess.run(emulated, capture_output=True, text=True, check=False))
