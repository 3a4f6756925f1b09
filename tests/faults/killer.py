"""Kill random descendants of a process at random instants: killer.py PID KILLS SEED MEAN_MS.

Run as a program of its own, so that the process under test has no helper thread. Prints the
number of kills when it is done.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path


def descendants(root: int) -> list[int]:
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            text = " ".join((task / "children").read_text() for task in tasks)
        except (FileNotFoundError, ProcessLookupError):
            continue
        below = [int(child) for child in text.split() if int(child) != os.getpid()]
        found += below
        waiting += below
    return found


def is_ours(pid: int, victim_marker: str) -> bool:
    """A process of the mapper runs the same program as its parent; others are left alone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode() == victim_marker
    except (FileNotFoundError, ProcessLookupError):
        return False


def main() -> None:
    root, kills, seed, mean_ms = (int(word) for word in sys.argv[1:5])
    chance = random.Random(seed)
    marker = Path(f"/proc/{root}/cmdline").read_bytes().decode()
    done = 0
    while done < kills:
        time.sleep(chance.expovariate(1000 / mean_ms))  # the random instant
        victims = [pid for pid in descendants(root) if is_ours(pid, marker)]
        if not victims:
            continue
        try:
            os.kill(chance.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            continue
        done += 1
    print(done)


if __name__ == "__main__":
    main()
