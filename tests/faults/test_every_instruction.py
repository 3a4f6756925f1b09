"""Killed at every instruction: nothing wedges, tears or gets lost.

``tests/native/crash_step.c`` runs each operation on shared memory in a process under ptrace and
kills it after k instructions, for every k from none to all; then survivors recover. It prints a
line of counts for each operation. What processes do to each other while all live is the subject of
``tests/native/test_explore.py``.
"""

from __future__ import annotations

import functools
import json
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "tests" / "native"
CORE = ROOT / "ext" / "csrc"
SOURCES = [
    NATIVE / f"{name}.c"
    for name in (
        "crash_step",
        "step",
        "world",
        "crash_ring",
        "crash_eventcount",
        "crash_board",
        "crash_heap",
        "teeth",
    )
]

# No lazy binding: the first call of a function must take no more instructions than the next.
FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-Wl,-z,now", f"-I{CORE}", f"-I{NATIVE}"]
if platform.machine() == "aarch64":
    # Load-exclusive/store-exclusive loops never succeed while single-stepped.
    FLAGS.append("-march=armv8.1-a")

BUILDS = [(compiler, level) for compiler in ("gcc", "clang") for level in ("-O0", "-O2")]

CASES = {
    "ring": {"push", "push_full", "pop", "pop_empty"},
    "eventcount": {"cancel", "wait", "notify"},
    "board": {
        *("take", "take_stale", "commit", "commit_any", "commit_failed", "cycle", "hand_out"),
        *("close", "retry", "give_up", "cancel", "sleep"),
    },
    "heap": {
        *("alloc_first", "alloc_fresh", "alloc_grow", "alloc_reuse", "alloc_sweep"),
        *("alloc_refused", "release", "own", "refresh", "release_other", "hold", "forget"),
        "publish",
    },
}

# What the operations of a task's way take at gcc -O2, on x86-64. A deliberate change of the cost
# changes the file, with its reason in the commit.
BUDGET: dict[str, int] = json.loads((NATIVE / "budget.json").read_text())
TOLERANCE = 0.15  # other compilers' versions

LINE = re.compile(
    r"(?P<group>\w+)\.(?P<name>\w+) instructions=(?P<instructions>\d+) visited=(?P<visited>\d+) "
    r"wedged=(?P<wedged>\d+) torn=(?P<torn>\d+) lost=(?P<lost>\d+)"
)


class Counts(NamedTuple):
    instructions: int
    visited: int
    wedged: int
    torn: int
    lost: int


class Outcome(NamedTuple):
    code: int
    counts: dict[str, Counts]
    complaints: str


@pytest.fixture(scope="module", params=BUILDS, ids="".join)
def stepper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler, level = request.param
    if compiler == "clang" and not request.config.getoption("--campaign"):
        pytest.skip("clang's code is stepped through with --campaign")
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = tmp_path_factory.mktemp("step") / "crash_step"
    core = sorted(CORE.glob("*.c"))
    subprocess.run([compiler, level, *FLAGS, *SOURCES, *core, "-o", program], check=True)
    return program


@functools.cache
def step_through(stepper: Path, group: str) -> Outcome:
    done = subprocess.run([stepper, group], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    print(done.stdout)
    counts = {}
    for line in done.stdout.splitlines():
        found = LINE.fullmatch(line)
        assert found is not None, line
        assert found["group"] == group
        counts[found["name"]] = Counts(*(int(found[field]) for field in Counts._fields))
    return Outcome(done.returncode, counts, done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("group", CASES)
def test_no_instruction_is_a_bad_place_to_die(stepper: Path, group: str) -> None:
    outcome = step_through(stepper, group)
    assert (outcome.code, outcome.complaints) == (0, "")
    assert outcome.counts.keys() == CASES[group]
    for name, counts in outcome.counts.items():
        assert counts.instructions > 0, name
        assert counts == Counts(counts.instructions, counts.instructions, 0, 0, 0), name


@pytest.mark.slow
@pytest.mark.parametrize("stepper", [("gcc", "-O2")], ids="".join, indirect=True)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the budget is in x86-64 instructions")
def test_operations_stay_within_their_budget(stepper: Path) -> None:
    spent = {
        f"{group}.{name}": step_through(stepper, group).counts[name].instructions
        for group, name in (operation.split(".") for operation in BUDGET)
    }
    # A budget that is far from what is spent guards nothing: lower it, and say why it could be.
    off = {
        operation: (count, BUDGET[operation])
        for operation, count in spent.items()
        if not 1 - 2 * TOLERANCE <= count / BUDGET[operation] <= 1 + TOLERANCE
    }
    assert off == {}


def test_stepping_finds_planted_mistakes(stepper: Path) -> None:
    outcome = step_through(stepper, "teeth")
    assert outcome.code == 1
    assert outcome.counts["wedged"].wedged > 0
    assert outcome.counts["torn"].torn > 0
    assert outcome.counts["lost"].lost > 0
