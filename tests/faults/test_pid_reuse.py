"""Every pid of a dead worker is taken by an innocent at once: no signal of ours may reach it.

In a pid namespace of its own, where the next pid can be chosen. A worker is killed while the
mapper is idle, an innocent gets its number, and the mapper then notices the death, replaces the
worker, maps and cleans up.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

PROGRAM = """
import os, signal, sys
from pathlib import Path
from ringwalk import WorkerMapper

def innocent(pid):
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    child = os.fork()
    if child == 0:
        os.setsid()
        while True:
            signal.pause()
    return child

hit = reused = 0
for _ in range(int(sys.argv[1])):
    with WorkerMapper(lambda k: os.getpid(), num_workers=1, timeout=5) as mapper:
        (pid,) = mapper.map([0])
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        # Its number is free when the template has reaped it, which nothing tells.
        while True:
            try:
                os.close(os.pidfd_open(pid))
            except ProcessLookupError:
                break
            os.sched_yield()
        os.close(pidfd)
        other = innocent(pid)
        reused += other == pid
        (again,) = mapper.map([1])
        assert again != pid
    hit += os.waitpid(other, os.WNOHANG) != (0, 0)
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
print(reused, hit)
"""


def may_unshare() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not may_unshare(), reason="needs the right to make a pid namespace")
def test_no_signal_goes_to_who_has_a_dead_worker_s_pid(rounds: Callable[[int, int], int]) -> None:
    times = rounds(20, 100)
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", PROGRAM, str(times)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reused, hit = map(int, done.stdout.split())
    assert reused > times // 2
    assert hit == 0
