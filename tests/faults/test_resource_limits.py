"""Limits on descriptors, processes, memory and files, a step wider each time until all fits.

drill.py says what each run must come to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

DRILL = Path(__file__).with_name("drill.py")
MIB = 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["WorkerMapper", "TaskMapper", "WalkerBlock"])
@pytest.mark.parametrize(
    ("limit", "ci", "campaign"),
    [
        ("RLIMIT_NOFILE", 1, 1),
        ("RLIMIT_NPROC", 1, 1),
        ("RLIMIT_AS", 128 * MIB, 16 * MIB),
        ("RLIMIT_FSIZE", 64 * MIB, 4 * MIB),
    ],
)
def test_every_step(
    scenario: str, limit: str, ci: int, campaign: int, rounds: Callable[[int, int], int]
) -> None:
    if limit == "RLIMIT_NPROC":
        if os.geteuid() != 0:
            pytest.skip("the count of processes is that of a user: only root can become another")
        if scenario == "WalkerBlock":
            pytest.skip("a block needs no process")
    done = subprocess.run(
        [sys.executable, DRILL, scenario, f"{limit}:{rounds(ci, campaign)}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # workers that cannot go on say so
        text=True,
        check=True,
    )
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run for run in runs if run["broken"]] == []
    print(len(runs), Counter(run["outcome"] for run in runs))
    # The narrowest was too narrow, the last wide enough.
    assert runs[0]["outcome"] != "completed"
    assert runs[-1]["outcome"] == "completed"
