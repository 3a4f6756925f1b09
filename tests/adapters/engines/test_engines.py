"""The work managers on MPI and on Dask, with real ranks and a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from ringwalk.futures.work_manager import DaskWorkManager, WMEnvironment

PROGRAM = """
import json
import os
from ringwalk.futures.work_manager import MPIWorkManager

def identity(value):
    return value

def fail():
    raise LookupError("as expected")

def leave():
    raise SystemExit(3)

with MPIWorkManager() as manager:
    if not manager.is_master:
        manager.run()
    else:
        futures = {manager.submit(identity, (k,)) for k in range(50)}
        results = set()
        while futures:
            future = manager.wait_any(futures)
            futures.remove(future)
            results.add(future.get_result())
        assert results == set(range(50))
        assert isinstance(manager.submit(fail).get_exception(), LookupError)
        assert isinstance(manager.submit(leave).get_exception(), SystemExit)
        tasks = ((identity, (k,), {}) for k in range(30))
        assert {f.get_result() for f in manager.submit_as_completed(tasks, 4)} == set(range(30))
        pids = {f.get_result() for f in manager.submit_many([(os.getpid, (), {})] * 40)}
        assert os.getpid() not in pids
        print("master of", manager.n_workers, "done", flush=True)
"""


def test_ranks_serve_the_master(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [Path(sys.executable).with_name("mpiexec"), "-n", "3", sys.executable, program],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "master of 2 done" in done.stdout


def identity(value: Any) -> Any:
    return value


def fail() -> None:
    raise LookupError("as expected")


@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_runs_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WM_WORK_MANAGER", "dask")
    monkeypatch.setenv("WM_N_WORKERS", "2")
    manager = WMEnvironment().make_work_manager()
    assert isinstance(manager, DaskWorkManager)
    with manager:
        futures = manager.submit_many([(identity, (k,), None) for k in range(40)])
        assert {f.get_result() for f in manager.as_completed(futures)} == set(range(40))
        assert isinstance(manager.submit(fail).get_exception(), LookupError)
        assert manager.submit(os.getpid).get_result() != os.getpid()
    assert not manager.running


@pytest.mark.filterwarnings("default")
def test_a_dask_cluster_that_runs_already_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        written = tmp_path / "scheduler.json"
        written.write_text(json.dumps({"address": cluster.scheduler_address}))
        for variable, value in (
            ("WM_DASK_SCHEDULER_ADDRESS", cluster.scheduler_address),
            ("WM_DASK_SCHEDULER_FILE", str(written)),
        ):
            with monkeypatch.context() as environment:
                environment.setenv(variable, value)
                manager = DaskWorkManager.from_environ(WMEnvironment())
            with manager:
                (worker,) = cluster.workers.values()
                assert manager.submit(os.getpid).get_result() == worker.pid
