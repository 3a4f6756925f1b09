"""Faults beneath an MPIWorkManager, each in a job of its own. A dead rank ends the job."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import faulty_tasks
import pytest

PROGRAM = Path(__file__).with_name("faults_program.py")
IMPORTABLE = Path(faulty_tasks.__file__).parent
MPIEXEC = Path(sys.executable).with_name("mpiexec")


def run(fault: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MPIEXEC, "-n", "3", sys.executable, PROGRAM, fault, folder],
        env={**os.environ, "PYTHONPATH": str(IMPORTABLE)},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.parametrize("fault", ["raises", "ctrl_c", "shutdown"])
def test_the_job_goes_on(fault: str, tmp_path: Path) -> None:
    done = run(fault, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n")


@pytest.mark.parametrize("fault", ["killed_rank", "killed_master"])
def test_a_killed_rank_ends_the_job(fault: str, tmp_path: Path) -> None:
    done = run(fault, tmp_path)
    assert done.returncode != 0
    assert "done" not in done.stdout
    assert "KILLED" in done.stdout.upper()
    assert all_end(told("pids", done.stdout))
    for name in told("memory", done.stdout):  # MPICH's own, which it leaves behind
        Path(name).unlink(missing_ok=True)


def test_an_exit_without_shutdown_waits_for_what_was_submitted(tmp_path: Path) -> None:
    done = run("exit_without_shutdown", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 20
    assert all_end(told("pids", done.stdout))


def told(what: str, output: str) -> list[str]:
    """What the master said of its job."""
    line = next(line for line in output.splitlines() if line.startswith(f"{what} "))
    return line.split()[1:]


def all_end(pids: list[str]) -> bool:
    """Wait until no process is left: mpiexec may end before those that it killed."""
    for pid in pids:
        try:
            pidfd = os.pidfd_open(int(pid))
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([pidfd], [], [], 60)
        os.close(pidfd)
        if not ended:
            return False
    return len(pids) > 1
