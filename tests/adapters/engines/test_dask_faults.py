"""Faults beneath a DaskWorkManager, with real workers."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import KilledWorker
from faulty_tasks import WAITS, Unloadable, Unpicklable, die, interrupt

from ringwalk import ClosedError
from ringwalk.futures.work_manager import DaskWorkManager

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture
def manager() -> Iterator[DaskWorkManager]:
    # Else Dask would run the task of a dead worker three times more.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        DaskWorkManager(2) as manager,
    ):
        yield manager


def hold(begun: str) -> None:
    Path(begun).read_bytes()
    signal.pause()


def test_errors_of_tasks_and_pickles_are_their_own(manager: DaskWorkManager) -> None:
    assert isinstance(manager.submit(int, ("x",)).get_exception(), ValueError)
    with pytest.raises(pickle.PicklingError, match="not me"):
        manager.submit(abs, (Unpicklable(),))
    with pytest.raises(pickle.PicklingError, match="not me"):
        manager.submit(Unpicklable).get_result()
    for args in ((abs, (Unloadable(),)), (Unloadable, ())):
        with pytest.raises(ValueError, match="refused to load"):
            manager.submit(*args).get_result()
    assert manager.submit(abs, (-1,)).get_result() == 1


def test_a_task_that_kills_its_worker_fails_and_nothing_of_it_comes_later(
    manager: DaskWorkManager,
) -> None:
    poison = manager.submit(die)
    assert isinstance(poison.get_exception(), KilledWorker)
    futures = [manager.submit(abs, (-k,)) for k in range(50)]
    assert {future.get_result() for future in manager.as_completed(futures)} == set(range(50))


def test_ctrl_c_ends_each_wait_and_loses_nothing(manager: DaskWorkManager, tmp_path: Path) -> None:
    for name, wait in WAITS.items():
        gate = tmp_path / name
        os.mkfifo(gate)
        future = manager.submit(interrupt, (os.getpid(), str(gate)))
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it may come before the wait begins
            gate.write_bytes(b"")
            wait(manager, future)
        assert not future.is_done()
        gate.write_bytes(b"")
        assert future.get_result() == "ended"


def test_shutdown_while_busy(manager: DaskWorkManager, tmp_path: Path) -> None:
    gates = [tmp_path / "one", tmp_path / "two"]
    for gate in gates:
        os.mkfifo(gate)
    futures = [manager.submit(hold, (str(gate),)) for gate in gates]
    futures += [manager.submit(abs, (-k,)) for k in range(50)]
    for gate in gates:
        gate.write_bytes(b"")  # waits for its reader: both workers are busy then
    manager.shutdown()
    for future in futures:
        assert isinstance(future.get_exception(), ClosedError)
    with pytest.raises(ClosedError):
        manager.submit(abs, (-1,))


SCRIPT = """
import os, signal
from ringwalk.futures.work_manager import DaskWorkManager

if __name__ == "__main__":
    manager = DaskWorkManager(2)
    manager.startup()
    print(*{manager.submit(os.getpid).get_result() for _ in range(20)}, flush=True)
    if not int(input()):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("code", [0, -signal.SIGKILL], ids=["exit", "SIGKILL"])
def test_a_parent_that_ends_without_shutdown_takes_its_workers_along(
    code: int, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        parent.communicate("1\n" if code == 0 else "0\n")
    assert parent.returncode == code
    assert workers
    for worker in workers:
        select.select([worker], [], [])
        os.close(worker)
