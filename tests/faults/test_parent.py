"""The parent, or everything, is SIGKILLed at a random instant: nothing is left a second later.

No process, no name in /dev/shm, no file, and with that no socket that has a name, in the
temporary folder. Shared memory is told by the machine's own sum, which others change, too, in
either direction: each victim holds far more of it than half of the rounds are allowed to keep.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
GONE_AFTER_S = 1.0
HELD = 24 << 20  # results that each victim of churn.py holds at least
ALLOWED = HELD // 4


def shared_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no Shmem in /proc/meminfo")


class Nursery:
    """nursery.py with churn.py."""

    def __init__(self, temporary: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / "nursery.py", HERE / "churn.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(temporary)},
        )

    def readline(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def start(self, thread: str) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{thread}\n")
        self._process.stdin.flush()
        pid = self.number()  # behind forks that the last program's lanes came to, without it
        assert self.readline() == "running"
        return pid

    def number(self) -> int:
        """The next line that is not about a fork: a pid, or an exit code."""
        while (line := self.readline()) == "fork":
            pass
        return int(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def nursery(temporary: Path) -> Iterator[Nursery]:
    opened = Nursery(temporary)
    try:
        yield opened
    finally:
        opened.close()


def kill(victim: str, session: Any, chance: random.Random) -> None:
    if victim == "parent":
        os.kill(session.leader, signal.SIGKILL)
    elif victim == "group":
        os.killpg(session.leader, signal.SIGKILL)
    else:  # one by one, as a killer that goes by a list does
        pids = session.pids()
        chance.shuffle(pids)
        for pid in {*pids, session.leader}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["parent", "group", "each"])
@pytest.mark.parametrize("thread", ["main", "helper"])
def test_killed_at_a_random_instant(
    victim: str,
    thread: str,
    rounds: Callable[[int, int], int],
    within: Callable[[float], float],
    session_of: Callable[[int], Any],
    tmp_path: Path,
) -> None:
    chance = random.Random(f"{victim} {thread}")
    survivors = 0
    before = shared_bytes()
    times = rounds(50, 500) if victim == "parent" else rounds(25, 250)
    with nursery(tmp_path) as programs:
        for turn in range(times):
            pid = programs.start(thread)
            if turn % 2:  # while it forks the template, workers, lanes or task processes
                for _ in range(chance.randrange(1, 20)):
                    assert programs.readline() == "fork"
                mean_s = 0.002
            else:
                mean_s = 0.05
            # Idle until the random instant; nothing else is synchronised by it.
            select.select([], [], [], chance.expovariate(1 / mean_s))
            session = session_of(pid)
            kill(victim, session, chance)
            survivors += session.wait_for_its_end(within(GONE_AFTER_S))
            assert programs.number() == -signal.SIGKILL
            left = [n for n in os.listdir("/dev/shm") if n.startswith(f"ringwalk-{pid}-")]
            for name in left:  # made, and not yet without a name: reclaimed by the next start
                subprocess.run(
                    [sys.executable, "-c", "import ringwalk; ringwalk.WalkerBlock(1, x='f8')"],
                    check=True,
                )
                assert not Path("/dev/shm", name).exists()
            assert list(tmp_path.iterdir()) == []
    # All of the machine's: other programs take some and give it back, but not from turn to turn.
    assert shared_bytes() - before < times * ALLOWED
    # Some were caught on their way out, or the instants were no good.
    assert victim != "parent" or survivors > 0
