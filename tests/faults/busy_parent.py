"""A parent whose other threads are busy: busy_parent.py KIND LOAD LIBRARY ROUNDS.

Maps ROUNDS times with new workers while two threads do what LOAD says and the segments do it
too. Prints how many maps were right, and each reason for which one was refused.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

import numpy as np

from ringwalk import TaskMapper, WorkerDied, WorkerInitError, WorkerMapper

KIND = {kind.__name__: kind for kind in (TaskMapper, WorkerMapper)}[sys.argv[1]]
LIBRARY = ctypes.CDLL(sys.argv[3])
WALKERS = 4
MATRIX = np.ones((200, 200))
logging.basicConfig(filename=os.devnull)  # a buffer would grow by 100 MB a second


def blas() -> None:
    assert (MATRIX @ MATRIX)[0, 0] == 200


def openmp() -> None:
    assert LIBRARY.busy_region(2) == 2


def malloc() -> None:
    assert LIBRARY.busy_malloc(1) > 0


def python() -> None:
    logging.getLogger("busy").warning("%s", [bytes(k) for k in range(100)])


def loop() -> None:
    LIBRARY.busy_loop()


LOADS: dict[str, Callable[[], None]] = {
    load.__name__: load for load in (blas, openmp, malloc, python, loop)
}


def main() -> None:
    load = LOADS[sys.argv[2]]
    turns = [threading.Semaphore(0), threading.Semaphore(0)]

    def keep_busy(turn: threading.Semaphore) -> None:
        while True:
            load()
            turn.release()

    def segment(k: int, cycle: int) -> tuple[int, int]:
        if load is not loop:
            load()
        if KIND is WorkerMapper and k == cycle % (3 * WALKERS):
            os.kill(os.getpid(), signal.SIGKILL)  # one in three maps: a worker is forked anew
        return k, cycle

    if load is openmp:
        openmp()  # the thread that forks has had a region, too
    for turn in turns:
        threading.Thread(target=keep_busy, args=(turn,), daemon=True).start()
    right = 0
    for cycle in range(int(sys.argv[4])):
        faulthandler.dump_traceback_later(100, exit=True)  # of this round; many take long
        try:
            with KIND(
                segment,
                num_workers=2,
                max_retries=0,
                on_error="finish",
                start_method="fork",
            ) as mapper:
                try:
                    results = mapper.map(range(WALKERS), [cycle] * WALKERS)
                except WorkerDied as error:
                    results = list(error.results.values())
                    results.insert(error.walker, (error.walker, cycle))
                    assert mapper.map([-1], [cycle]) == [(-1, cycle)]
        except WorkerInitError as refused:
            print(f"refused: {refused}")
            continue
        assert results == [(k, cycle) for k in range(WALKERS)]
        right += 1
        for turn in turns:
            while turn.acquire(blocking=False):
                pass
            turn.acquire()  # the parent's own threads go on: the fork took nothing from them
    print(f"right: {right}", flush=True)
    os._exit(0)  # the threads go on for ever


if __name__ == "__main__":
    main()
