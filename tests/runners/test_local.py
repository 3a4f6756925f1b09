"""LocalRunner: shell commands with a group, an environment and a log of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ringwalk.memory import RunTable, Status
from ringwalk.runners import LocalRunner


def told(fifo: Path) -> list[int]:
    with fifo.open() as file:
        return [int(word) for word in file.read().split()]


def test_each_run_has_its_number_environment_folder_and_log(
    table: RunTable, tmp_path: Path
) -> None:
    with LocalRunner(
        "echo $RINGWALK_RUN_ID $MINE; pwd; ps -o pgid= -p $$ >&2; echo $$",
        table,
        env=lambda run_id: {"MINE": f"m{run_id}"},
        cwd="/",
        log_dir=tmp_path / "log",
        parallel=2,
    ) as runner:
        runner.spawn_array({"u": 1.0} for _ in range(3))
        assert runner.wait_all()
        assert runner.failed == {}
    for k in range(3):
        words = (tmp_path / "log" / f"run_00{k}.log").read_text().split()
        assert words[:3] == [str(k), f"m{k}", "/"]
        assert words[3] == words[4]  # the leader of its group
    assert table["status"].tolist() == [Status.DONE] * 3


WORKER = """
import os
from ringwalk.memory import Table
with Table.attach(os.environ["RINGWALK_TABLE"]) as table:
    row = table[int(os.environ["RINGWALK_RUN_ID"])]
    row["f"] = row["u"] + 1
"""


def test_a_command_works_on_its_row_of_a_file(tmp_path: Path) -> None:
    import sys

    path = tmp_path / "study.npy"
    with RunTable({"u": "f8", "f": "f8"}, 1, path=path) as table:
        with LocalRunner([sys.executable, "-c", WORKER], table, parallel=2) as runner:
            runner.spawn_array({"u": float(k)} for k in range(3))
            assert runner.wait_all()
            assert runner.failed == {}
    assert np.load(path)["f"].tolist() == [1, 2, 3]


def test_an_exit_code_and_a_signal_are_told(table: RunTable, tmp_path: Path) -> None:
    script = "case $RINGWALK_RUN_ID in 0) echo oops >&2; exit 3;; 1) kill -9 $$;; esac; echo fine"
    with LocalRunner(script, table, parallel=3, log_dir=tmp_path) as runner:
        runner.spawn_array({} for _ in range(3))
        runner.wait_all()
        failed = runner.failed
    assert {k: (f.exitcode, f.error) for k, f in failed.items()} == {
        0: (3, "ended with exit code 3"),
        1: (-9, "was killed by SIGKILL"),
    }
    assert failed[0].log is not None
    assert failed[0].log.read_text() == "oops\n"
    assert (tmp_path / "run_002.log").read_text() == "fine\n"
    assert table["exitcode"].tolist() == [3, -9, 0]


def test_what_fails_is_tried_again(table: RunTable, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 3"
    with LocalRunner(script, table, parallel=1, retries=2) as runner:
        assert runner.wait(runner.spawn()) is Status.DONE
    assert (tmp_path / "tries").read_text() == "x\nx\nx\n"


def test_a_folder_that_is_not_there_fails_the_run(table: RunTable, tmp_path: Path) -> None:
    with LocalRunner("true", table, cwd=tmp_path / "none") as runner:
        run_id = runner.spawn()
        assert runner.status(run_id) is Status.FAILED
        assert "No such file" in runner.failed[run_id].error


@pytest.mark.parametrize("how", ["cancel", "timeout"])
def test_its_children_die_with_it(
    how: str, table: RunTable, fifo: Path, gone: Callable[[int], bool]
) -> None:
    script = f"sleep 1000 & setsid sleep 1000 & echo $$ $! $(jobs -p) > {fifo}; wait"
    timeout = 1.0 if how == "timeout" else None
    with LocalRunner(script, table, parallel=1, timeout=timeout) as runner:
        run_id = runner.spawn()
        pids = told(fifo)
        if how == "cancel":
            runner.cancel(run_id)
        assert runner.wait(run_id) is (Status.TIMEOUT if timeout else Status.CANCELLED)
        assert all(map(gone, pids))


def test_nobody_reaps_what_is_not_theirs(table: RunTable) -> None:
    stranger = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
    with LocalRunner("true", table, parallel=2) as runner:
        runner.spawn_array({} for _ in range(3))
        assert runner.wait_all()
    os.kill(stranger, signal.SIGTERM)
    assert os.waitpid(stranger, 0)[1] == signal.SIGTERM
