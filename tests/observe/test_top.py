"""Looking at running mappers from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringwalk import ConfigError, MapError, Mapper, SerialMapper, WorkerMapper
from ringwalk._core.board import board_bytes
from ringwalk.cli import main
from ringwalk.observe.attach import SLOT, TASK_BYTES, WORDS_BYTES, Attached, Sample, find

Pipes = tuple[int, int, int, int]


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    begun, go = os.pipe(), os.pipe()
    yield (*begun, *go)
    for fd in (*begun, *go):
        os.close(fd)


def attached_to(pid: int) -> list[Attached]:
    found = []
    for attached in find():
        if attached.pid == pid:
            found.append(attached)
        else:
            attached.close()
    return found


def mine() -> list[Attached]:
    return attached_to(os.getpid())


def pids_found() -> set[int]:
    pids = set()
    for attached in find():
        pids.add(attached.pid)
        attached.close()
    return pids


def refuse(walker: int) -> None:
    raise ValueError(walker)


def same(walker: int) -> int:
    return walker


def test_the_layout_is_that_of_the_board() -> None:
    assert board_bytes(3, 5) == WORDS_BYTES + 3 * SLOT.itemsize + 5 * TASK_BYTES


def test_a_running_map_is_seen(process_mapper: type[Mapper], pipes: Pipes) -> None:
    begun, tell_begun, go, tell_go = pipes

    def segment(walker: int, context: None) -> int:
        if walker == 1:
            os.write(tell_begun, b"1")
            os.read(go, 1)
        return walker

    def nothing(device: str | None) -> None:  # but init waits until every worker has done it
        return None

    with process_mapper(segment, 2, monitor=True, worker_init=nothing) as mapper:
        (attached,) = mine()
        with attached:
            assert attached.sample().total == 0
            running = mapper.map_unordered(range(2))
            assert next(running) == (0, 0)
            os.read(begun, 1)
            sample = attached.sample()
            busy = [worker for worker in sample.workers if worker.running is not None]
            pids = pids_found()
            os.write(tell_go, b"1")
            assert list(running) == [(1, 1)]
            after = attached.sample()
    assert (sample.pid, sample.mapper) == (os.getpid(), process_mapper.__name__)
    assert "segment" in sample.function
    assert (sample.total, sample.finished, sample.cycle) == (2, 1, 0)
    assert len(sample.workers) == 2
    assert len(busy) == 1
    assert sample.memory > 0
    assert sample.shared > 0
    assert all(worker.memory > 0 for worker in sample.workers)
    workers = {worker.pid for worker in sample.workers}
    assert os.getpid() in pids
    assert not workers & pids, "a worker that inherited the monitor passes for a mapper"
    assert after.total == 0
    assert sum(worker.done for worker in after.workers) == 2


def test_a_failed_map_is_no_running_one() -> None:
    with WorkerMapper(refuse, 1, monitor=True) as mapper:
        with pytest.raises(MapError):
            mapper.map(range(3))
        (attached,) = mine()
        with attached:
            assert attached.sample().total == 0


def test_only_those_that_want_it_are_found() -> None:
    with WorkerMapper(same, 1):
        assert mine() == []
    with WorkerMapper(same, 1, monitor=True):
        (attached,) = mine()
        attached.close()
    assert mine() == []


def test_a_successor_is_seen(
    process_mapper: type[Mapper],
    pipes: Pipes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, tell_begun, go, tell_go = pipes
    died = tmp_path / "died"

    def segment(walker: int) -> int:
        os.write(tell_begun, b"1")
        if not died.exists():
            dying = tmp_path / "dying"
            dying.write_text(f"{os.getpid()} {os.getppid()}")  # a lane has the task for a child
            dying.rename(died)
            os._exit(1)
        os.read(go, 1)
        return walker

    def look(finished: int, total: int) -> None:
        samples.append(attached.sample())

    def show() -> None:
        show_staff()
        pid = attached.sample().workers[0].pid
        if died.exists() and pid is not None and str(pid) not in died.read_text().split():
            os.write(tell_go, b"1")  # not sooner: it may be done before we hear of its process

    samples: list[Sample] = []
    with process_mapper(segment, 1, monitor=True, progress=look) as mapper:
        show_staff = mapper._show_staff  # type: ignore[attr-defined]
        monkeypatch.setattr(mapper, "_show_staff", show)
        (attached,) = mine()
        with attached:
            mapper.map(range(1))
    (worker,) = samples[-1].workers
    assert len(os.read(begun, 10)) == 2
    assert worker.pid is not None
    assert worker.memory > 0, "that is the dead one's process"


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with WorkerMapper(same, 3, devices=[1, 0], monitor=True):
        (attached,) = mine()
        with attached:
            sample = attached.sample()
    assert [worker.device for worker in sample.workers] == ["1", "0", "1"]


def test_a_hardened_mapper_cannot_be_monitored() -> None:
    with pytest.raises(ConfigError, match="choose one"):
        WorkerMapper(same, harden=True, monitor=True)


def test_mappers_in_this_process_have_no_monitor() -> None:
    with pytest.raises(TypeError):
        SerialMapper(same, monitor=True)  # type: ignore[call-arg]


PROGRAM = """
import sys
from ringwalk import WorkerMapper
with WorkerMapper(abs, 2, monitor=True) as mapper:
    mapper.map(range(10))
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running
        running.kill()


def test_nothing_is_left_of_a_killed_program(program: subprocess.Popen[str]) -> None:
    (attached,) = attached_to(program.pid)
    with attached:
        assert attached.sample().cycle == 0
        program.send_signal(signal.SIGKILL)
        program.wait()
        with pytest.raises((OSError, ValueError)):
            attached.sample()
    assert program.pid not in pids_found()


@pytest.mark.slow
def test_once_and_as_json(
    program: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--once", "--interval", "0.05"]) == 0
    assert f"WorkerMapper of abs, process {program.pid}" in capsys.readouterr().out
    assert main(["top", "--json", "--interval", "0.05"]) == 0
    shown = {found["pid"]: found for found in json.loads(capsys.readouterr().out)}
    workers = shown[program.pid]["workers"]
    assert sum(worker["done"] for worker in workers) == 10
    assert [worker["running"] for worker in workers] == [None, None]
    assert shown[program.pid]["rate"] == 0


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9"])
def test_a_senseless_interval_is_refused(interval: str) -> None:
    assert main(["top", "--once", "--interval", interval]) == 2
