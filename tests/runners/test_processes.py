"""ForkRunner and PoolRunner: rows are computed, failures told, nothing left running."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk.errors import BusyError, ClosedError, ConfigError, ForkedError
from ringwalk.memory import RunTable, Status
from ringwalk.runners import ForkRunner, PoolRunner

Gone = Callable[[int], bool]


@pytest.fixture(params=[ForkRunner, PoolRunner], ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[ForkRunner]:
    return request.param  # type: ignore[no-any-return]


def square(row: Any) -> None:
    row["f"] = row["u"] ** 2


def tell(fifo: Path, *pids: int) -> None:
    with fifo.open("w") as file:
        file.write(" ".join(map(str, pids)))


def told(fifo: Path) -> list[int]:
    with fifo.open() as file:
        return [int(word) for word in file.read().split()]


def test_rows_are_computed_while_the_table_grows(kind: type[ForkRunner], table: RunTable) -> None:
    with kind(square, table, parallel=2) as runner:
        ids = runner.spawn_array({"u": float(k)} for k in range(20))
        assert ids == list(range(20))
        assert runner.wait_all()
        assert runner.failed == {}
        assert {runner.status(k) for k in ids} == {Status.DONE}
    assert table["f"].tolist() == [k**2 for k in range(20)]
    assert set(table["status"]) == {Status.DONE}
    assert (table["end"] >= table["start"]).all()
    assert (table["start"] > 0).all()


def test_a_structured_array_is_a_design(kind: type[ForkRunner], table: RunTable) -> None:
    design = np.array([(1.0,), (2.0,)], [("u", "f8")])
    with kind(square, table, parallel=1) as runner:
        assert runner.spawn_array(design) == [0, 1]
        assert runner.wait(0) is Status.DONE
        assert runner.wait(1) is Status.DONE
    assert table["f"].tolist() == [1, 4]


def test_never_more_than_parallel_at_a_time(kind: type[ForkRunner], table: RunTable) -> None:
    def note(row: Any) -> None:
        row["u"], row["f"] = time.monotonic(), time.monotonic() + 0.01
        time.sleep(0.01)

    with kind(note, table, parallel=2) as runner:
        runner.spawn_array({} for _ in range(10))
        assert runner.unfinished == 10
        runner.wait_all()
    edges = sorted([(u, 1) for u in table["u"]] + [(f, -1) for f in table["f"]])
    assert max(np.cumsum([step for _, step in edges])) <= 2


def test_what_raises_fails_with_its_traceback_and_rows_stay_aligned(
    kind: type[ForkRunner], table: RunTable, tmp_path: Path
) -> None:
    def fussy(row: Any) -> None:
        print("u is", row["u"])
        if row["u"] == 1:
            raise ValueError("no ones, please")
        square(row)

    with kind(fussy, table, parallel=2, retries=3, log_dir=tmp_path / "log") as runner:
        runner.spawn_array({"u": float(k)} for k in range(3))
        runner.wait_all()
        failure = runner.failed[1]
        assert list(runner.failed) == [1]
    assert (failure.status, failure.attempts, failure.exitcode) == (Status.FAILED, 1, 1)
    assert failure.error == "ValueError: no ones, please"
    assert "in fussy" in failure.traceback
    assert failure.log == tmp_path / "log" / "run_001.log"
    assert failure.log.read_text().startswith("u is 1.0\nTraceback")
    assert (tmp_path / "log" / "run_002.log").read_text() == "u is 2.0\n"
    assert table["f"].tolist() == [0, 0, 4]
    assert table["status"].tolist() == [Status.DONE, Status.FAILED, Status.DONE]
    assert table["error"][1] == b"ValueError: no ones, please"


def test_a_death_is_told_with_its_cause(kind: type[ForkRunner], table: RunTable) -> None:
    def die(row: Any) -> None:
        match row["u"]:
            case 0:
                os.kill(os.getpid(), signal.SIGKILL)
            case 1:
                sys.exit(3)
            case 2:
                os._exit(0)
            case _:
                square(row)

    with kind(die, table, parallel=2) as runner:
        runner.spawn_array({"u": float(k)} for k in range(5))
        runner.wait_all()
        told = {k: (failure.exitcode, failure.error) for k, failure in runner.failed.items()}
    assert told == {
        0: (-9, "was killed by SIGKILL"),
        1: (3, "ended with exit code 3"),
        2: (0, "ended with exit code 0 before the run was finished"),
    }
    assert table["exitcode"].tolist() == [-9, 3, 0, 0, 0]
    assert table["f"].tolist() == [0, 0, 0, 9, 16]


def test_a_process_that_cannot_be_watched_does_not_run(
    kind: type[ForkRunner], table: RunTable
) -> None:
    _, most = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with kind(square, table, parallel=1) as runner:
        # Room for a pair of sockets, not for the pidfd.
        free = [os.dup(0) for _ in range(3)]
        for fd in free:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[2], most))
        try:
            refused = runner.spawn({"u": 2.0})
            assert runner.wait(refused) is Status.FAILED
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert "could not start" in runner.failed[refused].error
        assert f"[Errno {errno.EMFILE}]" in runner.failed[refused].error
        assert runner.wait(runner.spawn({"u": 3.0})) is Status.DONE
    assert table["f"].tolist() == [0, 9]


def test_a_run_that_died_is_tried_again(
    kind: type[ForkRunner], table: RunTable, tmp_path: Path
) -> None:
    def unlucky(row: Any) -> None:
        with (tmp_path / f"tries-{row['u']}").open("a") as file:
            file.write("x")
            file.flush()
            if file.tell() <= 2:
                os.kill(os.getpid(), signal.SIGKILL)
        square(row)

    with kind(unlucky, table, parallel=2, retries=2) as runner:
        runner.spawn_array([{"u": 3.0}, {"u": 4.0}])
        assert runner.wait_all()
        assert runner.failed == {}
    assert table["f"].tolist() == [9, 16]
    with kind(unlucky, table, parallel=2, retries=1) as runner:
        run_id = runner.spawn({"u": 5.0})
        assert runner.wait(run_id) is Status.FAILED
        assert runner.failed[run_id].attempts == 2


def test_a_hang_is_killed_with_all_that_it_started(
    kind: type[ForkRunner], table: RunTable, fifo: Path, gone: Gone
) -> None:
    def hang(row: Any) -> None:
        if row["u"]:
            square(row)
            return
        inside = subprocess.Popen(["sleep", "1000"])
        outside = subprocess.Popen(["setsid", "sleep", "1000"])
        tell(fifo, os.getpid(), inside.pid, outside.pid)
        outside.wait()

    with kind(hang, table, parallel=1, timeout=1.0) as runner:
        first, second = runner.spawn_array([{"u": 0.0}, {"u": 2.0}])
        pids = told(fifo)
        assert runner.wait(first) is Status.TIMEOUT
        assert all(map(gone, pids))
        assert runner.failed[first].error == "ran longer than 1 s"
        assert runner.wait(second) is Status.DONE
    assert table["status"].tolist() == [Status.TIMEOUT, Status.DONE]


def test_waiting_has_an_end(kind: type[ForkRunner], table: RunTable, fifo: Path) -> None:
    with kind(lambda row: told(fifo), table, parallel=1) as runner:
        run_id = runner.spawn()
        assert runner.wait(run_id, timeout=0.01) is Status.RUNNING
        assert runner.poll(run_id) is Status.RUNNING
        assert not runner.wait_all(timeout=0.01)
        assert runner.wait_any(timeout=0.01) == []
        tell(fifo)
        assert runner.wait_any() == [run_id]
        assert runner.wait_any() == []


def test_cancel_ends_one_and_the_others_go_on(
    kind: type[ForkRunner], table: RunTable, fifo: Path, gone: Gone
) -> None:
    def wait(row: Any) -> None:
        if row["u"] == 0:
            tell(fifo, os.getpid())
            time.sleep(1000)
        square(row)

    with kind(wait, table, parallel=1) as runner:
        runner.spawn_array({"u": float(k)} for k in range(3))
        (pid,) = told(fifo)
        runner.cancel(2)
        assert runner.status(2) is Status.CANCELLED
        runner.cancel(0)
        assert gone(pid)
        assert runner.wait(1) is Status.DONE
        runner.cancel(1)
        assert runner.status(1) is Status.DONE
        assert sorted(runner.failed) == [0, 2]
        runner.enqueue(2)
        assert runner.wait(2) is Status.DONE
        assert sorted(runner.failed) == [0]
        assert table["f"].tolist() == [0, 1, 4]


def test_close_ends_everything(
    kind: type[ForkRunner], table: RunTable, fifo: Path, gone: Gone
) -> None:
    def wait(row: Any) -> None:
        tell(fifo, os.getpid())
        time.sleep(1000)

    runner = kind(wait, table, parallel=1)
    runner.spawn_array([{}, {}])
    (pid,) = told(fifo)
    runner.close()
    runner.close()
    assert gone(pid)
    assert [runner.failed[k].status for k in (0, 1)] == [Status.CANCELLED] * 2
    for use in (runner.spawn, runner.poll_all, lambda: runner.cancel(0)):
        with pytest.raises(ClosedError, match="was closed"):
            use()


def test_an_end_that_nobody_looked_at_is_no_failure(
    kind: type[ForkRunner], table: RunTable, gone: Gone
) -> None:
    """The process may be gone long before the runner looks: the run is done all the same."""

    def last(row: Any) -> None:
        square(row)
        row["f"] = os.getpid()

    with kind(last, table, parallel=1) as runner:
        run_id = runner.spawn({"u": 2.0})
        while not table["f"][run_id]:
            assert runner.status(run_id) is Status.RUNNING
        if kind is ForkRunner:
            os.waitid(os.P_PID, int(table["f"][run_id]), os.WEXITED | os.WNOWAIT)
        assert runner.wait(run_id) is Status.DONE


def test_a_table_is_optional(kind: type[ForkRunner], tmp_path: Path) -> None:
    with kind(lambda run_id: (tmp_path / str(run_id)).touch(), parallel=2) as runner:
        runner.enqueue(17)
        runner.enqueue(4)
        assert runner.wait_all()
        with pytest.raises(ConfigError, match="use enqueue"):
            runner.spawn()
    assert sorted(os.listdir(tmp_path)) == ["17", "4"]


def test_misuse_is_refused(kind: type[ForkRunner], table: RunTable, fifo: Path) -> None:
    for options in ({"parallel": 0}, {"timeout": -1}, {"retries": -1}):
        with pytest.raises(ConfigError):
            kind(square, table, **options)  # type: ignore[arg-type]
    with kind(lambda row: told(fifo), table, parallel=1) as runner:
        run_id = runner.spawn()
        with pytest.raises(BusyError, match="is running"):
            runner.enqueue(run_id)
        pid = os.fork()
        if pid == 0:
            try:
                runner.poll_all()
            except ForkedError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        with pytest.raises(ConfigError, match="no such field"):
            runner.spawn({"v": 1})
        tell(fifo)
        assert runner.wait(run_id) is Status.DONE


def test_a_pool_keeps_its_workers_and_replaces_the_dead(table: RunTable) -> None:
    def which(row: Any) -> None:
        row["f"] = os.getpid()

    with PoolRunner(which, table, parallel=1) as runner:
        runner.spawn_array({} for _ in range(5))
        runner.wait_all()
        pids = set(table["f"].tolist())
        assert len(pids) == 1
        os.kill(int(pids.pop()), signal.SIGKILL)
        os.waitid(os.P_PID, int(table["f"][0]), os.WEXITED | os.WNOWAIT)
        run_id = runner.spawn()
        assert runner.wait(run_id) is Status.DONE
        assert table["f"][run_id] != table["f"][0]


def test_a_process_that_dies_idle_is_taken_in(table: RunTable, fifo: Path) -> None:
    """Else each wait would find its end again and return at once, in a loop."""

    def work(row: Any) -> None:
        row["f"] = os.getpid()
        if row["u"] == 0:
            tell(fifo)

    with PoolRunner(work, table, parallel=2) as runner:
        busy, idle = runner.spawn(), runner.spawn({"u": 1})
        assert runner.wait(idle) is Status.DONE
        pid = int(table["f"][idle])
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert runner.poll(busy) is Status.RUNNING
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        told(fifo)
        assert runner.wait(busy) is Status.DONE


OWNER = """
import os, subprocess, sys, time
from ringwalk.memory import RunTable
from ringwalk.runners import ForkRunner, PoolRunner

def hang(row):
    inside = subprocess.Popen(["sleep", "1000"])
    outside = subprocess.Popen(["setsid", "sleep", "1000"])
    with open(sys.argv[2], "w") as file:
        file.write(f"{os.getpid()} {inside.pid} {outside.pid}")
    outside.wait()

runner = globals()[sys.argv[1]](hang, RunTable({"u": "f8"}), parallel=1)
runner.spawn()
try:
    runner.wait_all()
except KeyboardInterrupt:
    runner.close()
    sys.exit(5)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_survives_its_runner(
    kind: type[ForkRunner], number: int, fifo: Path, gone: Gone
) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, kind.__name__, str(fifo)])
    pids = told(fifo)
    owner.send_signal(number)
    assert owner.wait() == (5 if number == signal.SIGINT else -number)
    assert all(map(gone, pids))
