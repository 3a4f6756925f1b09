"""What a no-op walker costs in machine instructions, held against a stored budget.

Instructions are the same on a busy and on a quiet machine, so this can fail in CI where a time
could not. valgrind's callgrind counts them: the parent forks a template, the template forks the
worker, so what parent and worker ran beyond the template's count is what they did since, and the
difference between maps of many and of few walkers is what the walkers cost.

A deliberate change of the cost changes ``callgrind.json``, with its reason in the commit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parent
BUDGET: dict[str, int] = json.loads((HERE / "callgrind.json").read_text())
# Other builds of Python and numpy run other instructions for the same work; the budget is that of
# Python 3.11. 3.12 and 3.13 call a segment with 150 more.
TOLERANCE = 0.15 if sys.version_info < (3, 12) else 0.35
MAPS = 3
FEW, MANY = 200, 2200

pytestmark = pytest.mark.slow


def since_the_template(folder: Path, walkers: int, preload: Path) -> dict[str, int]:
    """Instructions of parent and worker since their ways parted from the template's."""
    folder.mkdir()
    command = [
        *("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={folder}/%p"),
        *(sys.executable, str(HERE / "hot_path.py"), str(walkers), str(MAPS)),
    ]
    # Sets and dicts are laid out by hashes; those of strings differ from run to run.
    environment = {**os.environ, "PYTHONHASHSEED": "0", "LD_PRELOAD": str(preload)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        parent, template, worker = process.stdout.readline().decode().split()
        # By a signal upon which callgrind writes its counts; the worker first, as it dies at once
        # with the template, which does not reap it, for it does not hear of its death.
        for pid in map(int, (worker, template)):
            os.kill(pid, signal.SIGTERM)
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                os.sched_yield()
        process.stdin.close()
        assert process.wait() == 0
    counts = {path.name: count(path) for path in folder.iterdir()}
    return {
        "parent": counts[parent] - counts[template],
        "worker": counts[worker] - counts[template],
    }


def count(path: Path) -> int:
    found = re.search(r"^summary: (\d+)$", path.read_text(), re.MULTILINE)
    assert found is not None, path.read_text()[-500:]
    return int(found[1])


@pytest.fixture(scope="module")
def per_walker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed; .ci/packages installs it")
    folder = tmp_path_factory.mktemp("callgrind")
    preload = folder / "no_pidfds.so"
    build = ["gcc", "-std=gnu11", "-O1", "-shared", "-fPIC", "-Wall", "-Werror"]
    subprocess.run([*build, HERE / "no_pidfds.c", "-o", preload, "-ldl"], check=True)
    few, many = (since_the_template(folder / str(n), n, preload) for n in (FEW, MANY))
    return {who: (many[who] - few[who]) / (MAPS * (MANY - FEW)) for who in BUDGET}


@pytest.mark.parametrize("who", BUDGET)
def test_a_walker_stays_within_its_budget(per_walker: dict[str, float], who: str) -> None:
    spent, budget = per_walker[who], BUDGET[who]
    print(f"{who}: {spent:.0f} instructions a walker, budget {budget}")
    assert spent <= budget * (1 + TOLERANCE), (
        f"a no-op walker costs the {who} {spent:.0f} instructions, the budget is {budget}"
    )
    # A budget that is far from what is spent guards nothing.
    assert spent >= budget * (1 - 2 * TOLERANCE), (
        f"a no-op walker costs the {who} only {spent:.0f} instructions: lower the budget"
    )
