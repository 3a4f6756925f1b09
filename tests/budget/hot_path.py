"""Maps no-op rows of a block a few times, for callgrind; prints the pids of
parent, template and worker.

    python hot_path.py WALKERS MAPS
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ringwalk import WalkerBlock, WorkerMapper


def no_op(walker: Any) -> None:
    """The segment."""


def prepare(device: object) -> None:
    """Has the first map wait until the worker is there: what that takes is chance."""


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def main(walkers: int, maps: int) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # so that nobody spins: see patience.h
    with (
        WalkerBlock(walkers, weight="f8") as block,
        WorkerMapper(no_op, 1, worker_init=prepare, start_method="fork") as mapper,
    ):
        for _ in range(maps):
            assert len(mapper.map(block)) == walkers
        ((template, worker),) = [
            (child, below) for child in children(os.getpid()) for below in children(child)
        ]
        print(os.getpid(), template, worker, flush=True)
        sys.stdin.read()  # until all below are dead; nobody is told of that here: see no_pidfds.c
        os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
