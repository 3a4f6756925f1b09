"""Progress of everything that runs things: a function's calls, and the bar on a real terminal."""

from __future__ import annotations

import os
import pickle
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ringwalk import (
    ConfigError,
    Executor,
    Mapper,
    SerialMapper,
    TaskMapper,
    ThreadMapper,
    WorkerMapper,
)
from ringwalk.cluster import ClusterMapper
from ringwalk.distributors import CommandDistributor
from ringwalk.futures.work_manager import (
    DaskWorkManager,
    ProcessWorkManager,
    SerialWorkManager,
    ThreadsWorkManager,
    WorkManager,
)
from ringwalk.observe.progress import Reporter
from ringwalk.runners import ForkRunner, LocalRunner, PoolRunner

COUNT = 5


class Calls(list[tuple[int, int]]):
    def __call__(self, finished: int, all_: int) -> None:
        self.append((finished, all_))


def same(value: Any) -> Any:
    return value


def refuse(walker: int) -> int:
    if walker == 2:
        raise ValueError("no")
    return walker


def check(calls: Calls) -> None:
    assert calls[-1] == (COUNT, COUNT)
    assert [finished for finished, _ in calls] == sorted(finished for finished, _ in calls)
    assert all(finished <= all_ <= COUNT for finished, all_ in calls)


def test_mappers_tell(any_mapper: type[Mapper]) -> None:
    calls = Calls()
    with any_mapper(same, 2, progress=calls) as mapper:
        mapper.map(range(COUNT))
        check(calls)
        calls.clear()
        mapper.map(range(COUNT))
        check(calls)


def test_the_executor_tells_without_being_asked() -> None:
    calls = Calls()
    with Executor(2, progress=calls) as executor:
        for k in range(COUNT):
            executor.submit(same, k)
    check(calls)


def test_a_function_may_submit() -> None:
    calls = Calls()

    def tell(finished: int, all_: int) -> None:
        calls(finished, all_)
        if all_ < COUNT:
            executor.submit(same, all_)

    with Executor(2, progress=tell) as executor:
        executor.submit(same, 0).result()
        while executor._engine.open:
            executor._engine.wait(lambda: not executor._engine.open)
    check(calls)


def test_cancelled_calls_count() -> None:
    calls = Calls()
    with Executor(1, progress=calls) as executor:
        futures = [executor.submit(same, k) for k in range(COUNT)]
        for future in futures:
            future.cancel()
    check(Calls(sorted(calls)))  # the dispatcher tells, too, and may be overtaken


@pytest.mark.parametrize("kind", [SerialWorkManager, ThreadsWorkManager, ProcessWorkManager])
def test_work_managers_tell(kind: type[WorkManager]) -> None:
    calls = Calls()
    with kind(progress=calls) as manager:
        manager.wait_all([manager.submit(same, (k,)) for k in range(COUNT)])
    assert sorted(calls)[-1] == (COUNT, COUNT)
    assert len(calls) == COUNT


@pytest.mark.parametrize(
    "make",
    [
        lambda calls: ForkRunner(same, parallel=2, progress=calls),
        lambda calls: PoolRunner(same, parallel=2, progress=calls),
        lambda calls: LocalRunner("true", parallel=2, progress=calls),
    ],
    ids=["fork", "pool", "local"],
)
def test_runners_tell(make: Callable[[Calls], Any]) -> None:
    calls = Calls()
    with make(calls) as runner:
        for k in range(COUNT):
            runner.enqueue(k)
        runner.cancel(COUNT - 1)
        assert calls == [(1, COUNT)]
        runner.wait_all()
    check(calls)


def test_a_distributor_tells() -> None:
    calls = Calls()
    with CommandDistributor(2, progress=calls) as distributor:
        distributor.submit_array("true", COUNT - 1)
        distributor.submit("false")
        distributor.wait()
    check(calls)


TAKERS: dict[str, Callable[[Any], Any]] = {
    "SerialMapper": lambda progress: SerialMapper(same, progress=progress),
    "ThreadMapper": lambda progress: ThreadMapper(same, progress=progress),
    "WorkerMapper": lambda progress: WorkerMapper(same, progress=progress),
    "TaskMapper": lambda progress: TaskMapper(same, progress=progress),
    "ClusterMapper": lambda progress: ClusterMapper(Executor, same, progress=progress),
    "Executor": lambda progress: Executor(progress=progress),
    "SerialWorkManager": lambda progress: SerialWorkManager(progress=progress),
    "ThreadsWorkManager": lambda progress: ThreadsWorkManager(progress=progress),
    "ProcessWorkManager": lambda progress: ProcessWorkManager(progress=progress),
    "DaskWorkManager": lambda progress: DaskWorkManager(progress=progress),
    "ForkRunner": lambda progress: ForkRunner(same, progress=progress),
    "PoolRunner": lambda progress: PoolRunner(same, progress=progress),
    "LocalRunner": lambda progress: LocalRunner("true", progress=progress),
    "CommandDistributor": lambda progress: CommandDistributor(2, progress=progress),
}
"""All that run things, but for MPIWorkManager, which has DaskWorkManager's base and needs MPI."""


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("progress", ["yes", 1])
def test_anything_else_is_refused(taker: str, progress: Any) -> None:
    with pytest.raises(ConfigError, match="True for a bar"):
        TAKERS[taker](progress)


def test_without_a_terminal_nothing_is_wanted(capfd: pytest.CaptureFixture[str]) -> None:
    with SerialMapper(same, progress=True) as mapper:
        mapper.map(range(3))
    assert capfd.readouterr() == ("", "")
    assert not Reporter(True, "walkers").wanted


def test_a_mapper_with_a_bar_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(SerialMapper(same, progress=True))).map is not None


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    with ExitStack() as stack:
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        yield ours, theirs


PROGRAM = """
import os, sys, threading
from ringwalk import *
def segment(k):
    assert sys.stderr is sys.__stderr__ and sys.stdout is sys.__stdout__
    if k == 2 and sys.argv[1] == "fail":
        raise ValueError(k)
with {mapper}(segment, 2, progress=True) as mapper:
    try:
        mapper.map(range(5))
    except MapError:
        print("failed")
    assert threading.active_count() <= 3
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["well", "fail"])
@pytest.mark.parametrize("mapper", ["WorkerMapper", "TaskMapper"])
def test_the_bar_gives_the_terminal_back(
    terminal: tuple[int, int], mapper: str, how: str, tmp_path: Path
) -> None:
    ours, theirs = terminal
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(mapper=mapper), how],
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        cwd=tmp_path,
        check=False,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # its other end is closed, and all was read
            break
        written += piece
    text = written.decode()
    assert done.returncode == 0, text
    assert "walkers" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor: away, and back
    if how == "well":
        assert "5/5" in text
        assert done.stdout == b""
    else:
        assert done.stdout == b"failed\n"
