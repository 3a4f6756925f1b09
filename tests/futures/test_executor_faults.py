"""What goes wrong in a task, a worker or the parent, and what the executor makes of it."""

from __future__ import annotations

import concurrent.futures
import ctypes
import faulthandler
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faulty_tasks import Unloadable, Unpicklable

from ringwalk import BrokenExecutorError, Executor, TaskDied


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(2) as executor:
        yield executor


def segfault() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    ctypes.string_at(0)


DEATHS: dict[str, tuple[Callable[[], object], int | None, int | None]] = {
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), None, signal.SIGKILL),
    "_exit": (lambda: os._exit(3), 3, None),
    "segfault": (segfault, None, signal.SIGSEGV),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_task_that_kills_its_worker_fails_alone(executor: Executor, death: str) -> None:
    die, exitcode, signum = DEATHS[death]
    futures = [executor.submit(abs, -k) for k in range(50)]
    poison = executor.submit(die)
    futures += [executor.submit(abs, -k) for k in range(50, 100)]
    error = poison.exception()
    assert isinstance(error, TaskDied)
    assert isinstance(error, BrokenProcessPool)
    assert (error.attempts, error.exitcode, error.signal) == (2, exitcode, signum)
    assert [future.result() for future in futures] == list(range(100))
    assert executor.submit(abs, -1).result() == 1


def test_a_death_costs_one_attempt(executor: Executor, dies_once: Callable[[], str]) -> None:
    assert executor.submit(dies_once).result() == "survived"


def test_no_retries_means_executed_at_most_once(tmp_path: Path) -> None:
    def dies() -> None:
        with (tmp_path / "runs").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

    with Executor(1, max_retries=0) as executor:
        with pytest.raises(TaskDied, match="attempt 1 of 1"):
            executor.submit(dies).result()
    assert (tmp_path / "runs").read_text() == "x"


def test_idle_workers_that_are_killed_are_replaced(executor: Executor) -> None:
    pids = set(executor.map(lambda _: os.getpid(), range(50)))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    again = set(executor.map(lambda _: os.getpid(), range(50)))
    assert again
    assert not pids & again


def test_the_template_may_die(executor: Executor) -> None:
    os.kill(executor.submit(os.getppid).result(), signal.SIGKILL)
    assert list(executor.map(abs, range(100))) == list(range(100))


def _by_callback(executor: Executor, func: Callable[[], int]) -> int:
    future = executor.submit(func)
    delivered = threading.Event()
    future.add_done_callback(lambda _: delivered.set())
    delivered.wait()
    found: int = future.result()
    return found


def test_another_template_is_forked_beneath_threads_that_compute(executor: Executor) -> None:
    """The dispatcher forks it, for nobody waits here; another thread is in BLAS."""
    matrix = np.ones((200, 200))
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            matrix @ matrix

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        for _ in range(3):
            template = executor.submit(os.getppid).result()
            assert "ringwalk-dispatcher" in {thread.name for thread in threading.enumerate()}
            os.kill(template, signal.SIGKILL)
            while _by_callback(executor, os.getppid) == template:  # a worker that is about to die
                pass
            assert list(executor.map(abs, range(100))) == list(range(100))
    finally:
        ended.set()
        thread.join()


def test_a_task_s_exception_comes_with_its_traceback(executor: Executor) -> None:
    error = executor.submit(lambda: {}["missing"]).exception()
    assert isinstance(error, KeyError)
    assert error.args == ("missing",)
    assert "test_executor_faults" in str(error.__cause__)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_base_exceptions_are_the_task_s(kind: type[BaseException]) -> None:
    def raises() -> None:
        raise kind(3)

    with Executor(1) as executor:
        pid = executor.submit(os.getpid).result()
        for _ in range(4):
            error = executor.submit(raises).exception()
            assert type(error) is kind
            assert error.args == (3,)
        assert executor.submit(os.getpid).result() == pid


class TwoArguments(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__("custom")


def test_what_cannot_be_pickled_is_the_future_s_exception(executor: Executor) -> None:
    refused = executor.submit(abs, Unpicklable())
    with pytest.raises(pickle.PicklingError, match="not me"):
        refused.result()
    with pytest.raises(pickle.PicklingError, match="not me") as caught:
        executor.submit(Unpicklable).result()
    assert any("result" in note for note in caught.value.__notes__)


def test_what_cannot_be_unpickled(executor: Executor) -> None:
    for submit in (lambda: executor.submit(abs, Unloadable()), lambda: executor.submit(Unloadable)):
        with pytest.raises(ValueError, match="refused to load") as caught:
            submit().result()
        assert any("cannot be unpickled" in note for note in caught.value.__notes__)
    assert executor.submit(abs, -1).result() == 1


class Exits:
    """Ends whoever unpickles it."""

    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class ExitsEarly:
    """Ends whoever pickles it."""

    def __reduce__(self) -> Any:
        sys.exit(3)


@pytest.mark.parametrize("kind", [Exits, ExitsEarly])
def test_a_result_that_exits_on_its_way_is_the_future_s_exception(
    executor: Executor, kind: type
) -> None:
    future = executor.submit(kind)
    with pytest.raises(SystemExit) as caught:
        future.result()
    assert future.done()
    assert caught.value.code == 3
    assert executor.submit(abs, -1).result() == 1


def test_an_exception_that_does_not_unpickle_keeps_its_text(executor: Executor) -> None:
    def raises() -> None:
        raise TwoArguments(1, 2)

    error = executor.submit(raises).exception()
    assert "custom" in str(error)
    assert executor.submit(abs, -1).result() == 1


def test_an_initializer_that_raises_breaks_the_executor() -> None:
    def initialize() -> None:
        raise RuntimeError("no licence")

    with Executor(1, initializer=initialize) as executor:
        future = executor.submit(abs, -1)
        with pytest.raises(BrokenExecutorError, match="no licence"):
            future.result()
        with pytest.raises(concurrent.futures.BrokenExecutor):
            executor.submit(abs, -1)


def test_many_kills_lose_nothing(executor: Executor) -> None:
    for _ in range(5):
        futures = [executor.submit(abs, -k) for k in range(200)]
        os.kill(executor.submit(os.getpid).result(), signal.SIGKILL)
        assert [future.result() for future in futures] == list(range(200))


SCRIPT = """
import os, signal, sys
from ringwalk import Executor
executor = Executor(2)
print(executor.submit(os.getpid).result(), executor.submit(os.getppid).result(), flush=True)
{0}
"""


def run_script(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body)], capture_output=True, text=True, timeout=60
    )


def gone(output: str) -> bool:
    return not any(Path(f"/proc/{pid}/status").exists() for pid in output.split()[:2])


def test_interpreter_exit_waits_for_what_was_submitted(tmp_path: Path) -> None:
    done = run_script(
        "import pathlib\n"
        f"for k in range(20): executor.submit(pathlib.Path('{tmp_path}', str(k)).touch)"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 20
    assert gone(done.stdout)


def test_a_killed_parent_takes_its_workers_along() -> None:
    done = run_script(
        "worker = os.pidfd_open(executor.submit(os.getpid).result())\n"
        "executor.submit(signal.pause)\n"
        "reader = os.fork()\n"
        "if reader: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import select; select.select([worker], [], []); print('ended', flush=True)\n"
        "os._exit(0)"
    )
    assert done.stdout.endswith("ended\n")
    assert done.returncode == -signal.SIGKILL


def test_ctrl_c_in_a_script_is_prompt_and_quiet() -> None:
    done = run_script(
        "import threading\n"
        "executor.submit(signal.pause)\n"
        "try:\n"
        "    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "    executor.submit(signal.pause).result()\n"
        "except KeyboardInterrupt:\n    executor.kill_workers()\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert gone(done.stdout)


def test_ctrl_c_that_nobody_catches_ends_the_script() -> None:
    done = run_script(
        "import threading\n"
        "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "executor.submit(signal.pause).result()"
    )
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr
    assert gone(done.stdout)


def test_ctrl_c_in_a_with_block_does_not_wait_for_what_runs() -> None:
    done = run_script(
        "import threading\n"
        "try:\n"
        " threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        " with executor: executor.submit(signal.pause).result()\n"
        "except KeyboardInterrupt: print('quiet')"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("quiet\n")
    assert gone(done.stdout)
