"""A program in which other threads fork all the time: foreign_forks.py FRONT ROUNDS.

Opens, uses and closes the front ROUNDS times, for ever if that is 0. Python changes threads as
often as it can, so that each finds the others in the middle of everything.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import fronts

logging.basicConfig(filename=os.devnull)


def by_os_fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def by_multiprocessing() -> None:
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    assert process.exitcode == 0


def by_subprocess() -> None:
    subprocess.run(["true"], check=True, preexec_fn=int)


def by_logging() -> None:
    logging.getLogger("busy").warning("hello")


def main() -> None:
    name, rounds = sys.argv[1], int(sys.argv[2])
    faulthandler.dump_traceback_later(100, exit=True)
    sys.setswitchinterval(1e-5)

    def repeat(act: Callable[[], None]) -> None:
        while True:
            act()

    for act in (by_os_fork, by_multiprocessing, by_subprocess, by_logging):
        threading.Thread(target=repeat, args=(act,), daemon=True).start()
    print("running", flush=True)
    done = 0
    while done < rounds or not rounds:
        front, use = fronts.open_front(name)
        with front:
            use()
        done += 1
    print(f"right: {done}", flush=True)
    os._exit(0)  # the threads go on for ever


if __name__ == "__main__":
    main()
