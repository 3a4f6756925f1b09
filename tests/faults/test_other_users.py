"""What other processes can get at: another user's nothing; with harden, one's own nothing either.

A run is forked from the test and takes another user's id; its segments wait while a process of a
second user, or another of the same one, tries every door to every process of the run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ringwalk import ConfigError, Mapper, Row, WalkerBlock, WorkerMapper

RUNNER, ATTACKER = 61001, 61002
WORKERS = 2
SHM = Path("/dev/shm")
NAME = f"watched-{os.getpid()}"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")
_libc = ctypes.CDLL(None, use_errno=True)
_PIDFD_GETFD, _PTRACE_SEIZE, _PTRACE_DETACH = 438, 0x4206, 17
_PR_SET_DUMPABLE = 4


def become(user: int) -> None:
    """Take a user's id, with the dumpable mark that every program of that user starts with."""
    if user != os.geteuid():
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    assert _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0


def forked(body: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        except BaseException:  # nothing may return into the test's frames
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def descendants(pid: int) -> list[int]:
    text = "".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children"))
    below = [int(word) for word in text.split()]
    return [*below, *(further for child in below for further in descendants(child))]


def files(pid: int) -> dict[int, str]:
    folder = f"/proc/{pid}/fd"
    return {int(n): os.readlink(f"{folder}/{n}") for n in os.listdir(folder)}


def is_shared_memory(target: str) -> bool:
    return target.startswith(("/memfd:", "/dev/shm/ringwalk"))


@dataclass(frozen=True)
class Run:
    """A map that is under way: its processes and what they have open."""

    pid: int
    pids: list[int]
    open_files: dict[int, dict[int, str]]


def make_block(name: str | None) -> WalkerBlock:
    return WalkerBlock.create(WORKERS, {"x": "f8"}, name=name)


def life(kind: type[Mapper], name: str | None, harden: bool, ready: int, over: int) -> None:
    def segment(row: Row) -> None:
        row.x += 1
        os.write(ready, b".")
        assert os.read(over, 1) == b""  # the end of the file: the attack is over

    with (
        make_block(name) as block,
        kind(segment, num_workers=WORKERS, harden=harden) as mapper,
    ):
        mapper.map(block)
        assert block["x"].tolist() == [1.0] * WORKERS


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Have a user run a mapper until the test is over; it must then succeed."""
    over, hold = os.pipe()
    runs: list[int] = []

    def run(kind: type[Mapper], user: int, name: str | None = None, *, harden: bool = False) -> Run:
        told, ready = os.pipe()

        def body() -> NoReturn:
            os.close(hold)
            become(user)
            life(kind, name, harden, ready, over)
            os._exit(0)

        pid = forked(body)
        runs.append(pid)
        os.close(ready)
        for _ in range(WORKERS):
            assert os.read(told, 1) == b"."
        os.close(told)
        pids = [pid, *descendants(pid)]
        return Run(pid, pids, {pid: files(pid) for pid in pids})

    yield run
    os.close(hold)
    os.close(over)
    for pid in runs:
        assert os.waitpid(pid, 0)[1] == 0


def _opened(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags))
    except OSError:
        return False
    return True


def _read_memory(pid: int) -> bool:
    word = ctypes.c_long()
    ours = (ctypes.c_void_p * 2)(ctypes.addressof(word), 8)
    theirs = (ctypes.c_void_p * 2)(id(WORKERS), 8)  # forked: the same object is there
    return bool(_libc.process_vm_readv(pid, ours, 1, theirs, 1, 0) == 8)


def _trace(pid: int) -> bool:
    if _libc.ptrace(_PTRACE_SEIZE, pid, None, None) != 0:
        return False
    os.kill(pid, signal.SIGSTOP)  # a tracee can only be let go when it is stopped
    os.waitpid(pid, os.WUNTRACED | 0x40000000)  # __WALL
    assert _libc.ptrace(_PTRACE_DETACH, pid, None, None) == 0
    os.kill(pid, signal.SIGCONT)
    return True


def _take_descriptor(pid: int, fd: int) -> bool:
    pidfd = os.pidfd_open(pid)
    taken = _libc.syscall(_PIDFD_GETFD, pidfd, fd, 0)
    os.close(pidfd)
    if taken >= 0:
        os.close(taken)
    return bool(taken >= 0)


def doors(run: Run) -> Iterator[tuple[str, bool]]:
    """Every door to every process of the run, and whether it is open to the caller."""
    for pid, open_files in run.open_files.items():
        for fd, target in open_files.items():
            if is_shared_memory(target):
                for name, mode in (("read", os.O_RDONLY), ("write", os.O_RDWR)):
                    yield f"{name} /proc/PID/fd", _opened(f"/proc/{pid}/fd/{fd}", mode)
                yield "pidfd_getfd", _take_descriptor(pid, fd)
        yield "list /proc/PID/fd", _opened(f"/proc/{pid}/fd", os.O_DIRECTORY)
        yield "list /proc/PID/map_files", _opened(f"/proc/{pid}/map_files", os.O_DIRECTORY)
        yield "read /proc/PID/mem", _opened(f"/proc/{pid}/mem", os.O_RDONLY)
        yield "write /proc/PID/mem", _opened(f"/proc/{pid}/mem", os.O_RDWR)
        yield "read /proc/PID/environ", _opened(f"/proc/{pid}/environ", os.O_RDONLY)
        yield "process_vm_readv", _read_memory(pid)
        yield "ptrace", _trace(pid)


def attack(user: int, run: Run, attempts: Callable[[Run], Iterator[tuple[str, bool]]]) -> Any:
    """Door -> whether any of its kind was open to the user."""
    source, sink = os.pipe()

    def body() -> None:
        become(user)
        found: dict[str, bool] = {}
        for door, is_open in attempts(run):
            found[door] = found.get(door, False) or is_open
        os.write(sink, json.dumps(found).encode())

    pid = forked(body)
    os.close(sink)
    with os.fdopen(source, "rb") as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(text)


@needs_root
@pytest.mark.parametrize("name", [None, NAME], ids=["anonymous", "named"])
@pytest.mark.parametrize("user", [0, RUNNER])
def test_another_user_finds_every_door_shut(
    process_mapper: type[Mapper], user: int, name: str | None, start: Callable[..., Run]
) -> None:
    def attempts(run: Run) -> Iterator[tuple[str, bool]]:
        yield from doors(run)
        for path in (*SHM.glob(f"*{NAME}*"), *SHM.glob(f"ringwalk-{run.pid}-*")):
            yield "open a name", _opened(str(path), os.O_RDONLY)
            with contextlib.suppress(OSError):
                path.unlink()
                yield "remove a name", True
        for pid in run.pids:
            with contextlib.suppress(OSError):
                os.kill(pid, 0)
                yield "signal", True

    run = start(process_mapper, user, name)
    assert len(run.pids) == (4 if process_mapper is WorkerMapper else 5)
    found = attack(ATTACKER, run, attempts)
    assert found.pop("open a name", None) == (None if name is None else False)
    assert set(found) >= {"write /proc/PID/fd", "pidfd_getfd", "read /proc/PID/mem", "ptrace"}
    assert {door for door, is_open in found.items() if is_open} == set()


@needs_root
@pytest.mark.parametrize("name", [None, NAME], ids=["anonymous", "named"])
def test_only_its_user_may_use_shared_memory(
    process_mapper: type[Mapper], name: str | None, start: Callable[..., Run]
) -> None:
    run = start(process_mapper, RUNNER, name)
    modes = {
        (target[:6], os.stat(f"/proc/{pid}/fd/{fd}").st_mode & 0o7777)
        for pid, open_files in run.open_files.items()
        for fd, target in open_files.items()
        if is_shared_memory(target)
    }
    assert modes == {("/memfd", 0o600), ("/dev/s", 0o600)}


def test_no_socket_has_a_name_or_listens(
    process_mapper: type[Mapper], start: Callable[..., Run]
) -> None:
    run = start(process_mapper, os.geteuid())
    ours = {
        int(target[len("socket:[") : -1])
        for open_files in run.open_files.values()
        for target in open_files.values()
        if target.startswith("socket:[")
    }
    assert bool(ours) == (process_mapper is WorkerMapper)
    unnamed = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split()
        if int(inode) in ours and not path and not int(flags, 16) & 0x10000:  # __SO_ACCEPTCON
            unnamed.add(int(inode))
    assert unnamed == ours  # so none of them is of another family either


@needs_root
def test_harden_shuts_out_other_programs_of_the_user(
    process_mapper: type[Mapper], start: Callable[..., Run]
) -> None:
    found = attack(RUNNER, start(process_mapper, RUNNER, harden=True), doors)
    assert set(found) >= {"write /proc/PID/fd", "pidfd_getfd", "read /proc/PID/mem", "ptrace"}
    assert {door for door, is_open in found.items() if is_open} == set()


@needs_root
def test_without_harden_the_user_s_other_programs_get_in(
    process_mapper: type[Mapper], start: Callable[..., Run]
) -> None:
    found = attack(RUNNER, start(process_mapper, RUNNER), doors)
    assert found["write /proc/PID/fd"]  # the only one that Yama, where it is on, leaves open
    if _yama() == 0:
        assert all(found.values()), found


def _yama() -> int:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except FileNotFoundError:
        return 0


@needs_root
def test_a_hardened_mapper_maps_blocks_and_retries(process_mapper: type[Mapper]) -> None:
    def body() -> None:
        become(RUNNER)

        def flaky(row: Row, mark: int) -> None:
            row.x += 1
            with contextlib.suppress(BlockingIOError):
                os.read(mark, 1)
                os.kill(os.getpid(), signal.SIGKILL)

        source, sink = os.pipe2(os.O_NONBLOCK)
        os.write(sink, b".")
        with (
            process_mapper(flaky, num_workers=WORKERS, harden=True) as mapper,
            WalkerBlock(8, x="f8") as block,
        ):
            mapper.map(block, [source] * 8)
            assert block["x"].tolist() == [1.0] * 8
            with pytest.raises(BlockingIOError):
                os.read(source, 1)  # one process did die

    assert os.waitpid(forked(body), 0)[1] == 0


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_harden_needs_forked_workers(method: str) -> None:
    with pytest.raises(ConfigError, match="harden=True with start_method"):
        WorkerMapper(abs, harden=True, start_method=method)
