"""Maps no-op rows of a block a few times, for callgrind; prints the pids of
parent, template and worker.

    python hot_path.py WALKERS MAPS

valgrind 3.19 knows no pidfds. Stand-ins that never tell of a death take their place, and workers
are ended by a signal upon which callgrind still writes its counts.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

_pids: dict[int, int] = {}


def open_stand_in(pid: int, flags: int = 0) -> int:
    fd = os.eventfd(0)
    _pids[fd] = pid
    return fd


def end(pidfd: int, number: int, *_: Any) -> None:
    os.kill(_pids[pidfd], signal.SIGUSR2)


os.pidfd_open = open_stand_in
signal.pidfd_send_signal = end

from ringwalk import WalkerBlock, WorkerMapper  # noqa: E402


def no_op(walker: Any) -> None:
    """The segment."""


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def main(walkers: int, maps: int) -> None:
    with WalkerBlock(walkers, weight="f8") as block, WorkerMapper(no_op, 1) as mapper:
        for _ in range(maps):
            assert len(mapper.map(block)) == walkers
        ((template, worker),) = [
            (child, below) for child in children(os.getpid()) for below in children(child)
        ]
        print(os.getpid(), template, worker, flush=True)
        # Without a word: the template ends the worker when this process is gone.
        os._exit(0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
