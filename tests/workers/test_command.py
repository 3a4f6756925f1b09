"""Commands: their own group, their end noticed by a pidfd, and nothing of a tree left alive."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringwalk.errors import ClosedError
from ringwalk.workers.command import Command, Launcher, Program


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    launcher = Launcher()
    yield launcher
    launcher.close()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def gone(pid: int) -> bool:
    """Wait for the end of a process that is not our child; whether it came."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    answer = bool(ended.poll(10_000))
    os.close(pidfd)
    return answer


def started(launcher: Launcher, fifo: Path, script: str) -> tuple[Command, list[int]]:
    """Start a script that writes process ids to the fifo; returns once it has."""
    command = launcher.start(Program(script), env={"FIFO": str(fifo)})
    with fifo.open() as file:
        return command, [int(word) for word in file.read().split()]


def test_the_end_is_readable_and_the_code_is_told(launcher: Launcher) -> None:
    command = launcher.start(Program("exit 3"))
    assert select.select([command], [], [], 10)[0] == [command]
    assert command.wait() == command.returncode == 3
    command.close()
    command.close()


def test_a_command_has_its_own_group_environment_folder_and_output(
    launcher: Launcher, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as log:
        command = launcher.start(
            Program("pwd; echo $X; ps -o pgid= -p $$"),
            env={"X": "7"},
            cwd="/",
            output=log.fileno(),
        )
    assert command.wait() == 0
    assert (tmp_path / "log").read_text().split() == ["/", "7", str(command.pid)]
    command.close()


def test_waiting_ends_with_the_timeout(launcher: Launcher) -> None:
    command = launcher.start(Program("exec sleep 1000"))
    assert command.wait(0.01) is None
    command.kill()
    assert command.returncode == -signal.SIGKILL
    command.close()


def test_a_kill_reaches_children_and_those_that_left_the_group(
    launcher: Launcher, fifo: Path
) -> None:
    script = "sleep 1000 & setsid sleep 1000 & echo $! $(jobs -p) > $FIFO; wait"
    command, pids = started(launcher, fifo, script)
    command.kill()
    assert all(map(gone, pids))
    assert command.returncode == -signal.SIGKILL
    command.close()


def test_terminate_lets_a_tree_that_listens_end_by_itself(
    launcher: Launcher, fifo: Path, tmp_path: Path
) -> None:
    script = f"trap 'echo bye > {tmp_path}/mark; exit 5' TERM; echo $$ > $FIFO; sleep 1000 & wait"
    command, _ = started(launcher, fifo, script)
    command.terminate(grace=10)
    assert command.returncode == 5
    assert (tmp_path / "mark").read_text() == "bye\n"
    command.close()


def test_terminate_kills_who_does_not_listen(launcher: Launcher, fifo: Path) -> None:
    script = "trap '' TERM; echo $$ > $FIFO; while :; do sleep 1000; done"
    command, pids = started(launcher, fifo, script)
    command.terminate(grace=0.05)
    assert command.returncode == -signal.SIGKILL
    assert all(map(gone, pids))
    command.close()


def test_close_ends_what_commands_left_behind(launcher: Launcher, fifo: Path) -> None:
    command, pids = started(launcher, fifo, "setsid sleep 1000 & echo $! > $FIFO")
    assert command.wait() == 0
    command.close()
    launcher.close()
    assert all(map(gone, pids))
    with pytest.raises(ClosedError, match="closed"):
        launcher.start(Program("true"))


def test_a_signal_finds_one_command_and_not_its_neighbour(launcher: Launcher) -> None:
    first, second = (launcher.start(Program("exec sleep 1000")) for _ in range(2))
    first.send_signal(signal.SIGTERM)
    assert first.wait(10) == -signal.SIGTERM
    assert second.returncode is None
    second.kill()
    first.close()
    second.close()


OWNER = """
import os, sys
from ringwalk.workers.command import Launcher, Program
launcher = Launcher()
launcher.start(Program("sleep 1000 & setsid sleep 1000 & echo $! $(jobs -p) $$ > $FIFO; wait"))
sys.stdin.read()
"""


def test_when_the_owner_is_killed_its_commands_end(fifo: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "FIFO": str(fifo)},
        stdin=subprocess.PIPE,
    )
    with fifo.open() as file:
        pids = [int(word) for word in file.read().split()]
    owner.kill()
    owner.communicate()
    assert all(map(gone, pids))


def test_what_cannot_start_says_so(launcher: Launcher) -> None:
    with pytest.raises(FileNotFoundError):
        launcher.start(Program(["/nonexistent/program"]))
