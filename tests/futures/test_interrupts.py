"""Ctrl-C, killed parents, ends without shutdown: of the executor and of every work manager."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from faulty_tasks import WAITS

from ringwalk import BrokenExecutorError, ClosedError, Executor
from ringwalk.futures.work_manager import (
    ProcessWorkManager,
    ThreadsWorkManager,
    WorkManager,
)

# A serial manager runs tasks in submit, and waits for nothing.
MANAGERS: dict[str, Callable[[], WorkManager]] = {
    "threads": lambda: ThreadsWorkManager(2),
    "processes": lambda: ProcessWorkManager(2),
}


@pytest.fixture(params=MANAGERS)
def manager(request: pytest.FixtureRequest) -> Iterator[WorkManager]:
    with MANAGERS[request.param]() as manager:
        yield manager


class Gates:
    """A task that waits until it may interrupt its parent, and then until it may end."""

    def __init__(self, folder: Path) -> None:
        self._parent = os.getpid()
        self._first, self._second = folder / "first", folder / "second"
        os.mkfifo(self._first)
        os.mkfifo(self._second)

    def task(self) -> str:
        self._first.read_bytes()
        os.kill(self._parent, signal.SIGINT)
        self._second.read_bytes()
        return "ended"

    def hold(self) -> str:
        self._first.read_bytes()
        self._second.read_bytes()
        return "held"

    def let_begin(self) -> None:
        self._first.write_bytes(b"")

    def let_end(self) -> None:
        self._second.write_bytes(b"")


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_wait_and_loses_nothing(
    manager: WorkManager, gates: Gates, wait: str
) -> None:
    future = manager.submit(gates.task)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it may come before the wait begins
        gates.let_begin()
        WAITS[wait](manager, future)
    assert not future.is_done()
    gates.let_end()
    assert future.get_result() == "ended"
    assert manager.submit(abs, (-1,)).get_result() == 1


def test_ctrl_c_ends_submit_as_completed(manager: WorkManager, gates: Gates) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in manager.submit_as_completed(_tasks(gates), 2):
            pass
    gates.let_end()
    assert manager.submit(abs, (-1,)).get_result() == 1


def _tasks(gates: Gates) -> Iterator[tuple[Any, Any, Any]]:
    yield abs, (-1,), None
    yield gates.task, None, None
    gates.let_begin()
    yield abs, (-2,), None


EXECUTOR_WAITS: dict[str, Callable[[Any], object]] = {
    "result": lambda future: future.result(),
    "exception": lambda future: future.exception(),
    "wait": lambda future: concurrent.futures.wait([future]),
    "as_completed": lambda future: list(concurrent.futures.as_completed([future])),
}


@pytest.mark.parametrize("wait", EXECUTOR_WAITS)
def test_ctrl_c_ends_a_wait_of_the_executor(gates: Gates, wait: str) -> None:
    with Executor(2) as executor:
        future = executor.submit(gates.task)
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            gates.let_begin()
            EXECUTOR_WAITS[wait](future)
        gates.let_end()
        assert future.result() == "ended"
        assert executor.submit(abs, -1).result() == 1


def test_ctrl_c_ends_a_map(gates: Gates) -> None:
    with Executor(2) as executor:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            results = executor.map(lambda _: gates.task(), range(1))
            gates.let_begin()
            next(results)
        gates.let_end()
        assert executor.submit(abs, -1).result() == 1


class Interrupting:
    """Has Ctrl-C pressed in the middle of ``submit``, with all locks that it takes."""

    def __reduce__(self) -> Any:
        signal.raise_signal(signal.SIGINT)
        return int, ()


def test_ctrl_c_in_submit_shuts_down_after_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    manager = ProcessWorkManager(2)
    with manager:
        manager.install_sigint_handler()
        try:
            assert manager.submit(abs, (-1,)).get_result() == 1
            with pytest.raises(KeyboardInterrupt):
                manager.submit(abs, (Interrupting(),))
            assert not manager.running
        finally:
            signal.signal(signal.SIGINT, before)


def test_ctrl_c_in_submit_leaves_the_executor_whole() -> None:
    with Executor(2) as executor:
        assert executor.submit(abs, -1).result() == 1
        with pytest.raises(KeyboardInterrupt):
            executor.submit(abs, Interrupting())
        assert executor.submit(abs, -1).result() == 1


def test_shutdown_while_busy(manager: WorkManager, tmp_path: Path) -> None:
    """What runs in threads may finish; in processes it has ``shutdown_timeout`` seconds."""
    held = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        held.append(Gates(tmp_path / name))
    running = [manager.submit(gates.hold) for gates in held]
    waiting = [manager.submit(abs, (-k,)) for k in range(100)]
    for gates in held:
        gates.let_begin()
    if isinstance(manager, ProcessWorkManager):
        manager.shutdown_timeout = 0.0
        manager.shutdown()
        for future in running + waiting:
            assert isinstance(future.get_exception(), BrokenExecutorError)
    else:
        releasing = threading.Thread(target=lambda: [gates.let_end() for gates in held])
        releasing.start()
        manager.shutdown()
        releasing.join()
        assert [future.get_result() for future in running] == ["held", "held"]
        for future in waiting:
            assert isinstance(future.get_exception(), ClosedError | NoneType)
    with pytest.raises(ClosedError):
        manager.submit(abs, (-1,))


# --- in a process of their own -----------------------------------------------------------------

SCRIPT = """
import os, pathlib, signal, sys
from ringwalk import Executor
from ringwalk.futures.work_manager import *

class Wrapped:
    def __init__(self): self.executor = Executor(2)
    def startup(self): pass
    def submit(self, fn, args=()): return self.executor.submit(fn, *args)

def result(future):
    return future.result() if kind is Wrapped else future.get_result()

kind = {kind}
manager = kind()
manager.startup()
{body}
"""
IN_PROCESSES = ["Wrapped", "ProcessWorkManager"]


def run(kind: str, body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(kind=kind, body=body)],
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize(
    "kind", ["Wrapped", "ProcessWorkManager", "ThreadsWorkManager", "SerialWorkManager"]
)
def test_an_exit_without_shutdown_waits_for_what_was_submitted(kind: str, tmp_path: Path) -> None:
    done = run(
        kind,
        "manager.submit(abs, (-1,))\n"
        f"for k in range(20): manager.submit(pathlib.Path({str(tmp_path)!r}, str(k)).touch)",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("kind", IN_PROCESSES)
def test_a_killed_parent_takes_its_workers_along(kind: str) -> None:
    done = run(
        kind,
        "worker = os.pidfd_open(result(manager.submit(os.getpid)))\n"
        "template = os.pidfd_open(result(manager.submit(os.getppid)))\n"
        "manager.submit(signal.pause)\n"
        "reader = os.fork()\n"
        "if reader: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import select\n"
        "for process in worker, template: select.select([process], [], [])\n"
        "print('ended', flush=True)\n"
        "os._exit(0)",
    )
    assert (done.stdout, done.returncode) == ("ended\n", -signal.SIGKILL)


@pytest.mark.parametrize("kind", IN_PROCESSES)
def test_an_exit_after_ctrl_c_does_not_wait(kind: str) -> None:
    done = run(
        kind,
        "import threading\n"
        "future = manager.submit(signal.pause)\n"
        "try:\n"
        "    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    result(future)\n"
        "except KeyboardInterrupt:\n    print('interrupted')",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


@pytest.mark.parametrize("kind", IN_PROCESSES)
def test_an_exit_after_ctrl_c_in_submit_does_not_wait(kind: str) -> None:
    done = run(
        kind,
        "class Interrupting:\n"
        "    def __reduce__(self):\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        return int, ()\n"
        "manager.submit(signal.pause)\n"
        "try:\n    manager.submit(abs, (Interrupting(),))\n"
        "except KeyboardInterrupt:\n    print('interrupted')",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_a_start_while_another_thread_waits_does_not_wait_for_its_task(gates: Gates) -> None:
    with Executor(2) as executor:
        future = executor.submit(gates.hold)
        gates.let_begin()
        waiting = threading.Thread(target=future.result)
        waiting.start()
        executor.start()
        assert not future.done()
        gates.let_end()
        waiting.join()
        assert future.result() == "held"
