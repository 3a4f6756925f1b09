"""What runs on when one of the processes around a command is killed: nothing, unless asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringwalk.distributors import CommandDistributor
from ringwalk.distributors.channel import Submit, Word
from ringwalk.distributors.link import Link


@pytest.fixture
def caller() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a process that has a distributor ``d`` of one slot, does this and waits."""
    started: list[subprocess.Popen[bytes]] = []

    def start(body: str, options: str = "") -> subprocess.Popen[bytes]:
        script = (
            "import signal\n"
            "from ringwalk.distributors import CommandDistributor\n"
            f"d = CommandDistributor(1{options})\n"
            f"d.start()\n{body}\nsignal.pause()\n"
        )
        started.append(subprocess.Popen([sys.executable, "-c", script]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


Caller = Callable[..., "subprocess.Popen[bytes]"]


def test_killed_caller(
    caller: Caller, fifo: Path, tmp_path: Path, await_end: Callable[[int], None]
) -> None:
    process = caller(
        f"d.submit('setsid sleep 1000 & echo $PPID $$ $! > {fifo}; wait')\n"
        f"d.submit('touch {tmp_path}/ran')"
    )
    pids = [int(pid) for pid in fifo.read_text().split()]
    process.kill()
    for pid in pids:
        await_end(pid)
    assert not (tmp_path / "ran").exists()


def test_a_caller_that_is_to_be_outlived(
    caller: Caller, fifo: Path, await_end: Callable[[int], None]
) -> None:
    process = caller(
        f"d.submit('echo $PPID > {fifo}; read line < {fifo}')\nd.submit('echo done > {fifo}')",
        ", outlive=True",
    )
    supervisor = int(fifo.read_text())
    process.kill()
    process.wait()
    fifo.write_text("go\n")
    assert fifo.read_text() == "done\n"
    await_end(supervisor)


def test_what_a_dead_caller_had_said_is_heard(
    caller: Caller, fifo: Path, tmp_path: Path, await_end: Callable[[int], None]
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    process = caller(
        f"d.submit('echo $PPID > {fifo}')\nopen({str(go)!r}).read()\n"
        f"for i in range(4): d.submit(f'touch {tmp_path}/ran{{i}}')\n"
        f"open({str(go)!r}, 'w').close()",
        ", outlive=True",
    )
    supervisor = int(fifo.read_text())
    os.kill(supervisor, signal.SIGSTOP)
    go.write_text("")
    go.read_text()  # all are submitted
    process.kill()
    process.wait()
    os.kill(supervisor, signal.SIGCONT)
    await_end(supervisor)
    assert {path.name for path in tmp_path.glob("ran*")} == {f"ran{i}" for i in range(4)}


def test_killed_supervisor(
    distributor: CommandDistributor, fifo: Path, tmp_path: Path, await_end: Callable[[int], None]
) -> None:
    name = distributor.submit(f"setsid sleep 1000 & echo $PPID $$ $! > {fifo}; wait")
    others = distributor.submit_array(f"touch {tmp_path}/ran; sleep 1000", 3)
    supervisor, *pids = [int(pid) for pid in fifo.read_text().split()]
    os.kill(supervisor, signal.SIGKILL)
    assert distributor.wait(timeout=60)
    for pid in pids:
        await_end(pid)
    info = distributor.exit_info(name)
    assert info is not None
    assert info.error is not None
    assert "lost" in info.error
    assert distributor.submitted_or_running(others) == set()
    again = distributor.submit("exit 4")
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(again)
    assert info is not None
    assert info.exit_code == 4


def test_exceptions_from_signal_handlers(caller: Caller) -> None:
    process = caller(
        "import os, sys, threading\n"
        "class Interrupted(BaseException): pass\n"  # that no library catches by chance
        "def interrupt(*_): raise Interrupted\n"
        "signal.signal(signal.SIGALRM, interrupt)\n"
        "for turn in range(50):\n"
        "    names = []\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.0002 * turn)\n"
        "        while True:\n"
        "            names += d.submit_array(['true'], 2)\n"
        "            d.terminate(names[-1:])\n"
        "            d.wait(timeout=0.001)\n"
        "            d.completed(timeout=0)\n"
        "    except Interrupted:\n"
        "        pass\n"
        "    assert d.wait(timeout=60)\n"
        "    assert all(d.exit_info(name) is not None for name in names)\n"
        "d.stop()\n"
        "sys.exit(5)"
    )
    assert process.wait(120) == 5


class Interrupted(BaseException):
    """What a signal handler may raise."""


class Open(dict[str, int]):
    """Interrupts the first removal."""

    interrupted = False

    def __delitem__(self, name: str) -> None:
        if not self.interrupted:
            self.interrupted = True
            raise Interrupted
        super().__delitem__(name)


def test_an_end_that_was_noted_when_interrupted_is_told_once(
    distributor: CommandDistributor,
) -> None:
    name = distributor.submit("true")
    distributor._open = Open(distributor._open)
    with pytest.raises(Interrupted):
        distributor.wait(timeout=60)
    assert [info.id for info in distributor.completed(timeout=60)] == [name]
    assert distributor.completed() == []


def test_an_interrupted_start_leaves_nothing_that_waits_for_ever(
    make: Callable[..., CommandDistributor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributor = make()
    ids = [distributor.submit(f"echo . >> {tmp_path}/ran{k}") for k in range(3)]
    say, said = Link.say, []

    def interrupted(link: Link, word: Word) -> int:
        said.append(word)
        if len(said) == 2:
            raise Interrupted
        return say(link, word)

    with monkeypatch.context() as patched:
        patched.setattr(Link, "say", interrupted)
        with pytest.raises(Interrupted):
            distributor.start()
    assert all(isinstance(word, Submit) for word in said)
    distributor.start()
    again = distributor.submit("true")
    assert distributor.wait(timeout=20)
    assert sorted(info.id for info in distributor.completed()) == sorted([*ids, again])
    info = distributor.exit_info(again)
    assert info is not None
    assert info.ok
    assert all(path.read_text() == ".\n" for path in tmp_path.glob("ran*"))


class Gone:
    """Interrupts the first wait for the supervisor's end."""

    def __init__(self, real: Any) -> None:
        self.poll = self._interrupted
        self._real = real

    def _interrupted(self, timeout: float) -> Any:
        self.poll = self._real.poll
        raise Interrupted


def test_an_interrupted_stop_can_be_repeated(
    distributor: CommandDistributor, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = distributor.submit("sleep 1000")
    link = distributor._link
    assert link is not None
    monkeypatch.setattr(link, "_gone", Gone(link._gone))
    with pytest.raises(Interrupted):
        distributor.stop()
    distributor.stop()
    info = distributor.exit_info(name)
    assert info is not None
    assert info.terminated
