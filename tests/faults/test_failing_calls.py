"""Every call that gets memory, a mapping, a descriptor or a process fails once, at every index.

For each function and each of its calls in a scenario (start, map objects and rows, grow the heaps,
replace a killed worker, end) one run in which just that call fails, in the parent or in any process
below it: drill.py says what a run must come to, injector.c makes the call fail. With ``--campaign``
also runs in which all calls from there on fail.
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

FAULTS = Path(__file__).parent
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror"]

PARENT = [
    *("mmap:ENOMEM", "malloc:ENOMEM", "memfd_create:EMFILE", "fchmod:ENOMEM", "seal:ENOMEM"),
    *("ftruncate:ENOSPC", "fallocate:ENOSPC", "fallocate:ENOMEM", "fallocate:EINTR"),
    *("eventfd:EMFILE", "fork:EAGAIN", "fork:ENOMEM", "pidfd_open:EMFILE", "poll:ENOMEM"),
    *("shm_open:EMFILE", "posix_fallocate:ENOSPC", "posix_fallocate:EINTR"),
    *("open:EMFILE", "dup:EMFILE", "pipe2:EMFILE"),
]
MESSAGES = ["sendmsg:ENOBUFS", "recvmsg:ENOMEM", "recvmsg:EMFILE", "recvmsg:EINTR"]
BELOW = ["mmap:ENOMEM", "fallocate:ENOSPC", "fallocate:EINTR", "fork:EAGAIN", "open:EMFILE"]
BLOCK = [
    *("mmap:ENOMEM", "ftruncate:ENOSPC", "open:EMFILE", "dup:EMFILE", "shm_open:EMFILE"),
    *("link:ENOSPC", "posix_fallocate:ENOSPC", "posix_fallocate:EINTR"),
]
CASES = {
    ("WorkerMapper", "parent"): [*PARENT, "socketpair:EMFILE", *MESSAGES],
    ("WorkerMapper", "descendants"): [
        *(*BELOW, *MESSAGES),
        *("pidfd_open:EMFILE", "poll:ENOMEM", "dup:EMFILE"),
    ],
    ("TaskMapper", "parent"): PARENT,
    ("TaskMapper", "descendants"): BELOW,
    ("WalkerBlock", "parent"): BLOCK,
}


@pytest.fixture(scope="module")
def injector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("injector") / "injector.so"
    command = ["gcc", *WARNINGS, "-O2", "-fPIC", "-shared", FAULTS / "injector.c", "-o", library]
    subprocess.run(command, check=True)
    return library


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "where"), CASES)
def test_every_index(
    injector: Path, scenario: str, where: str, rounds: Callable[[int, int], int]
) -> None:
    points = [f"{point}:once:{where}" for point in CASES[scenario, where]]
    if rounds(0, 1):
        points += [
            f"{point}:lasting:{where}"
            for point in CASES[scenario, where]
            if not point.endswith("EINTR")
        ]
    done = subprocess.run(
        [sys.executable, FAULTS / "drill.py", scenario, *points],
        env={**os.environ, "LD_PRELOAD": str(injector), "INJECTOR": str(injector)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # workers that cannot go on say so
        text=True,
        check=True,
    )
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [run for run in runs if run["broken"]] == []
    met = [run for run in runs if run["met"]]
    print(len(met), Counter(run["outcome"] for run in met))
    # Nothing is tested where nothing failed.
    assert {run["point"] for run in met} == set(points)
