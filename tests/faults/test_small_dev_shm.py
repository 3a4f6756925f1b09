"""A /dev/shm of 1 MB, and of 64 MB as containers have: blocks are refused, never a SIGBUS.

The program runs in a mount namespace of its own, with a small file system over /dev/shm.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs /dev/shm && shift && exec "$@"'

PROGRAM = """
import os, re, sys
import numpy as np
from ringwalk import HeapFullError, TaskMapper, WalkerBlock, WorkerMapper

room, rounds = int(sys.argv[1]), int(sys.argv[2])

def advance(row):
    row.x += 1

def large(k):
    return np.full(room // 16, float(k))  # half of the room, and there are four

refused = 0
for k in range(rounds):
    # From just too large to much too large: a block has two generations and a header.
    rows = room // 2 // 64 + k * room // 64 // rounds
    try:
        WalkerBlock(rows, x=((8,), "f8"))
    except HeapFullError as error:
        told = str(error)
        assert "/dev/shm" in told and "--shm-size" in told, told
        wanted = int(re.search("block of ([0-9,]+) bytes", told)[1].replace(",", ""))
        assert 0 <= wanted - 2 * 64 * rows < 1 << 17, told  # a header and unused pages
        refused += 1
    assert os.listdir("/dev/shm") == []
assert refused == rounds

for Kind in (WorkerMapper, TaskMapper):
    # A block that fits; and what moves in the mapper's own memory may be as large as it likes.
    fits = (room // 4 // 16 // 8,), "f8"
    with WalkerBlock(16, x=fits) as block, Kind(advance, num_workers=2) as m:
        m.map(block)
        assert (block["x"] == 1).all()
    with Kind(large, num_workers=2) as m:
        for array, k in zip(m.map(range(4)), range(4), strict=True):
            assert array.min() == array.max() == k
print("as promised")
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    namespace = ["unshare", "--mount", "sh", "-c", MOUNT, "sh"]
    return subprocess.run([*namespace, *command], capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize(("megabytes", "ci"), [(1, 50), (64, 5)])
def test_blocks_are_refused_and_mappers_work(
    megabytes: int, ci: int, rounds: Callable[[int, int], int]
) -> None:
    size = f"{megabytes}m"
    probe = run(size, "true")
    if probe.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {probe.stderr.strip()}")
    before = os.statvfs("/dev/shm").f_blocks
    arguments = [str(megabytes << 20), str(rounds(ci, 500))]
    done = run(size, sys.executable, "-c", PROGRAM, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "as promised\n", "")
    assert os.statvfs("/dev/shm").f_blocks == before
