"""No descriptor of ours is open in programs that the parent or a segment starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ringwalk import Mapper, TaskMapper, WalkerBlock, WorkerMapper

# The listing's own descriptor is closed when its entries are read.
LIST = """
import os
for n in os.listdir("/proc/self/fd"):
    if os.path.exists(f"/proc/self/fd/{n}"):
        print(os.readlink(f"/proc/self/fd/{n}"))
"""


def inherited() -> list[str]:
    """What a program finds open that is started as carelessly as possible."""
    done = subprocess.run(
        [sys.executable, "-c", LIST], stdout=subprocess.PIPE, text=True, check=True, close_fds=False
    )
    return sorted(line for line in done.stdout.splitlines() if not line.startswith("/proc/"))


def kinds(listing: list[str]) -> list[str]:
    return [line.partition(":")[0] for line in listing]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "task"])
def test_started_programs_inherit_no_descriptor(method: str) -> None:
    options = {} if method == "task" else {"start_method": method}
    kind: type[Mapper] = TaskMapper if method == "task" else WorkerMapper
    before = inherited()
    with (
        WalkerBlock(1, x="f8") as block,
        kind(lambda row: inherited(), num_workers=1, **options) as mapper,
    ):
        (in_segment,) = mapper.map(block)
        assert kinds(inherited()) == kinds(before)
        if method in ("fork", "task"):
            assert kinds(in_segment) == kinds(before)
            return
        # multiprocessing leaves pipes of its own open in a fresh interpreter.
        assert set(kinds(in_segment)) <= {*kinds(before), "pipe"}
        leash = mapper._pool.crew._template.leash  # type: ignore[attr-defined]
        assert os.readlink(f"/proc/self/fd/{leash}") not in in_segment
