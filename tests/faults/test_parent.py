"""The parent, or everything, is SIGKILLed at a random instant: nothing may be left.

The program starts, maps with and ends mappers in a loop, so the instants include those of forking
and of cleaning up.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
from ringwalk import TaskMapper, WalkerBlock, WorkerMapper

def work(row):
    row.x += 1

def rounds():
    print("running", flush=True)
    while True:
        for kind in (WorkerMapper, TaskMapper):
            with WalkerBlock(6, x=((1000,), "f8")) as block, kind(work, num_workers=2) as mapper:
                for _ in range(3):
                    mapper.map(block)

if sys.argv[1] == "helper":
    thread = threading.Thread(target=rounds)
    thread.start()
    thread.join()
rounds()
"""


def of_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # A zombie is dead; that its new parent reaps it late is not ours.
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


def wait_for_the_end_of(session: int) -> int:
    """Wait until no process of a session is left; how many there were.

    One that stays is ended by the watchdog, and the test with it.
    """
    count = 0
    while pids := of_session(session):
        count += len(pids)
        for pid in pids:
            try:
                pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            select.select([pidfd], [], [])
            os.close(pidfd)
    return count


@pytest.mark.parametrize("victim", ["parent", "everything"])
@pytest.mark.parametrize("thread", ["main", "helper"])
def test_killed_at_a_random_instant(
    victim: str, thread: str, rounds: Callable[[int, int], int]
) -> None:
    chance = random.Random(f"{victim} {thread}")
    survivors = 0
    for _ in range(rounds(25, 500)):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, thread],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        # Idle until the random instant; nothing else is synchronised by it.
        select.select([], [], [], chance.expovariate(1 / 0.05))
        if victim == "parent":
            process.send_signal(signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()
        survivors += wait_for_the_end_of(process.pid)
        left = [n for n in os.listdir("/dev/shm") if n.startswith(f"ringwalk-{process.pid}-")]
        for name in left:  # made, and not yet without a name: reclaimed by the next start
            subprocess.run(
                [sys.executable, "-c", "from ringwalk import WalkerBlock; WalkerBlock(1, x='f8')"],
                check=True,
            )
            assert not Path("/dev/shm", name).exists()
    # Some were caught on their way out, or the instants were no good.
    assert victim == "everything" or survivors > 0
