"""What our executor does beyond the contract of executors."""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ringwalk import ClosedError, ConfigError, Executor, ForkedError


def identity(value: Any) -> Any:
    return value


def wait_for(path: Path) -> None:
    """Block a worker until another process writes to the pipe at path."""
    with path.open() as gate:
        gate.read()


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Executor(2) as executor:
        yield executor


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def open_gate(path: Path) -> None:
    path.write_text("")


def test_more_tasks_than_records(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, gate: Path
) -> None:
    monkeypatch.setattr("ringwalk.futures.stream.RECORDS", 8)
    first = executor.submit(wait_for, gate)
    futures = [executor.submit(identity, k) for k in range(100)]
    assert futures[-1].cancel()
    open_gate(gate)
    assert [future.result() for future in futures[:-1]] == list(range(99))
    assert first.result() is None


def test_closures_and_what_main_would_define(executor: Executor) -> None:
    factor = 3
    assert list(executor.map(lambda k: k * factor, range(5))) == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 4])
def test_map_keeps_the_order(executor: Executor, chunksize: int, buffersize: int | None) -> None:
    results = executor.map(pow, range(20), range(20), chunksize=chunksize, buffersize=buffersize)
    assert list(results) == [k**k for k in range(20)]


def test_map_reads_no_further_than_the_buffer(executor: Executor) -> None:
    taken = []

    def items() -> Iterator[int]:
        for k in range(100):
            taken.append(k)
            yield k

    results = executor.map(identity, items(), buffersize=3)
    assert len(taken) == 3
    assert next(results) == 0
    assert len(taken) == 4
    assert list(results) == list(range(1, 100))


def test_map_raises_when_time_is_up(
    executor: Executor, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("ringwalk.futures.executor.time", clock)
    results = executor.map(lambda k: wait_for(gate) if k else 0, [0, 1], timeout=100.0)
    assert next(results) == 0
    with gate.open("w"):  # opens when the worker has it open, too
        now = 100.0
        with pytest.raises(TimeoutError):
            next(results)


@pytest.mark.parametrize("arguments", [{"chunksize": 0}, {"buffersize": 0}])
def test_map_refuses_bad_sizes(executor: Executor, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give 1 or more|must be None or > 0"):
        executor.map(identity, [1], **arguments)


def test_threads_wait_for_different_futures(executor: Executor, gate: Path) -> None:
    slow = executor.submit(wait_for, gate)
    seen: list[Any] = []
    threads = [threading.Thread(target=lambda: seen.append(slow.result())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert [executor.submit(identity, k).result() for k in range(50)] == list(range(50))
    open_gate(gate)
    for thread in threads:
        thread.join()
    assert seen == [None] * 3


def test_the_initializer_runs_once_in_each_worker(tmp_path: Path) -> None:
    def initialize(folder: Path) -> None:
        (folder / str(os.getpid())).touch()

    with Executor(2, initializer=initialize, initargs=(tmp_path,)) as executor:
        executor.start()
        assert len(list(tmp_path.iterdir())) == 2
        pids = set(executor.map(lambda _: os.getpid(), range(50)))
    assert {str(pid) for pid in pids} <= {path.name for path in tmp_path.iterdir()}


def test_shutdown_waits_for_what_is_queued() -> None:
    executor = Executor(2)
    futures = [executor.submit(identity, k) for k in range(500)]
    executor.shutdown()
    assert [future.result() for future in futures] == list(range(500))
    executor.shutdown()
    with pytest.raises(ClosedError):
        executor.submit(identity, 1)


def test_a_forgotten_executor_finishes_its_tasks_and_ends(gate: Path) -> None:
    executor = Executor(1)
    worker = os.pidfd_open(executor.submit(os.getpid).result())
    futures = [executor.submit(wait_for, gate), executor.submit(identity, 3)]
    del executor
    gc.collect()
    open_gate(gate)
    assert futures[1].result() == 3
    select.select([worker], [], [])  # it ends by itself
    os.close(worker)
    for thread in threading.enumerate():
        if thread.name == "ringwalk-dispatcher":
            thread.join()


def test_an_executor_that_never_ran_leaves_nothing() -> None:
    Executor(2).shutdown()
    Executor(2)


def test_a_forked_child_may_not_use_it(executor: Executor) -> None:
    future = executor.submit(identity, 1)
    assert future.result() == 1
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(identity, 1)
        except ForkedError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert executor.submit(identity, 2).result() == 2


def test_idle_costs_no_processor_time(executor: Executor) -> None:
    executor.submit(identity, 1).result()
    before = time.process_time()
    threading.Event().wait(1.5)
    assert time.process_time() - before < 0.02


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_fresh_interpreters(start_method: Any) -> None:
    with Executor(1, start_method=start_method) as executor:
        assert executor.submit(pow, 2, 5).result() == 32


@pytest.mark.parametrize(
    "arguments", [{"max_workers": 0}, {"max_retries": -1}, {"start_method": "x"}, {"inputs": "x"}]
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Executor(**arguments)


def test_a_bad_initializer_is_refused() -> None:
    with pytest.raises(TypeError):
        Executor(initializer=3)  # type: ignore[arg-type]


def test_ctrl_c_leaves_the_wait_and_the_executor_goes_on(executor: Executor, gate: Path) -> None:
    future = executor.submit(wait_for, gate)

    def interrupt() -> None:
        with gate.open("w"):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            interrupted.wait()

    interrupted = threading.Event()
    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012  the signal may come before start ends
        thread.start()
        future.result()
    interrupted.set()
    thread.join()
    assert future.result() is None
    assert executor.submit(identity, 1).result() == 1


def test_functions_of_the_script_that_are_younger_than_the_workers() -> None:
    script = """
from ringwalk import Executor
def old(): return "old"
with Executor(1) as executor:
    assert executor.submit(old).result() == "old"
    def late(k): return k + 1
    assert executor.submit(late, 1).result() == 2
    def old(): return "new"
    assert executor.submit(old).result() == "new"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_arguments_refer_to_in_the_script_may_be_younger_than_the_workers() -> None:
    """New functions and classes, and ones defined anew: never what they were before."""
    script = """
from dataclasses import dataclass
from functools import partial
from ringwalk import Executor

def shift(k): return k + 1
def call(func, *args): return func(*args)

@dataclass
class Point:
    x: int

with Executor(1) as executor:
    assert list(executor.map(shift, [1, 2], chunksize=2)) == [2, 3]
    assert executor.submit(call, shift, 1).result() == 2
    assert executor.submit(call, Point, 1).result() == Point(1)

    old = shift
    def shift(k): return k + 10
    assert list(executor.map(shift, [1, 2], chunksize=2)) == [11, 12]
    assert executor.submit(partial(shift, 1)).result() == 11
    assert executor.submit(call, shift, 1).result() == 11
    assert executor.submit(old, 1).result() == 2

    @dataclass
    class Point:
        x: int
        y: int = 0
        def sum(self): return self.x + self.y

    assert executor.submit(call, Point, 3, 4).result() == Point(3, 4)
    assert executor.submit(Point(3, 4).sum).result() == 7
    assert executor.submit(call, Point.sum, Point(3, 5)).result() == 8
    assert executor.submit(list, [Point(1, 2)]).result() == [Point(1, 2)]

    with Executor(1) as second:
        assert second.submit(shift, 1).result() == 11
        assert second.submit(old, 1).result() == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
