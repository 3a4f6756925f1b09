"""Starts, maps with and ends mappers in a loop until it is killed: ``main(thread)`` for nursery.py.

Prints a line when results and a block lie in shared memory, and one at each fork of a process of
the mappers, so that a killer can aim at it. ``thread``: "main", or "helper" for one that it starts.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np

from ringwalk import Row, TaskMapper, WalkerBlock, WorkerMapper

RESULT_BYTES = 4 << 20
WALKERS = 6


def work(row: Row) -> Any:
    row.x += 1
    return np.ones(RESULT_BYTES // 8)


def churn() -> None:
    kept: Any = None
    while True:
        for kind in (WorkerMapper, TaskMapper):
            with WalkerBlock(WALKERS, x=((1000,), "f8")) as block:
                with kind(work, num_workers=2) as mapper:
                    for _ in range(3):
                        results = mapper.map(block)
                        if kept is None:
                            kept = results
                            os.write(1, b"running\n")
                            os.register_at_fork(before=lambda: os.write(1, b"fork\n"))


def main(thread: str) -> None:
    if thread == "helper":
        helper = threading.Thread(target=churn)
        helper.start()
        helper.join()
    churn()
