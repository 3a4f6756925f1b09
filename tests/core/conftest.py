"""For the tests of the native core: real processes, a pool's memory, a heap with its holders."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from mmap import PAGESIZE
from pathlib import Path
from typing import Any

import pytest

from ringwalk._core.arena import Arena
from ringwalk._core.board import Board, board_bytes
from ringwalk._core.consumer import Consumer
from ringwalk._core.heap import Heap, heap_bytes
from ringwalk._core.process import fork as core_fork
from ringwalk._core.ring import Ring
from ringwalk.memory.inherited import release_for_the_dead

_FUTEX = {"x86_64": 202, "aarch64": 98}[platform.machine()]


class Child:
    """A forked process of the test."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._reaped = False

    def join(self) -> int:
        """Its exit code; minus the signal that killed it."""
        _, status = os.waitpid(self.pid, 0)
        self._reaped = True
        return os.waitstatus_to_exitcode(status)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.pid, signum)

    def await_sleep(self) -> None:
        """Return once it sleeps on a futex; fail if it ends instead, or never does."""
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, f"process {self.pid} does not sleep on a futex"
            call = Path(f"/proc/{self.pid}/syscall").read_text().split()
            if call[0] == str(_FUTEX):
                return
            assert os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            os.sched_yield()

    def clear(self) -> None:
        if not self._reaped:
            with contextlib.suppress(ProcessLookupError):
                self.kill()
            self.join()


Fork = Callable[[Callable[[], object]], Child]


@pytest.fixture
def fork() -> Iterator[Fork]:
    """Run a function in a forked process: exit code 0 when it returns, 1 when it raises."""
    children: list[Child] = []

    def start(body: Callable[[], object]) -> Child:
        pid = core_fork()
        if pid == 0:
            code = 1
            try:
                body()
                code = 0
            except BaseException:  # nothing may return into the test's frames
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(Child(pid))
        return children[-1]

    yield start
    for child in children:
        child.clear()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # the test closed it
            os.close(end)


SLOTS, CAPACITY, EPOCH = 2, 64, 7


class Pool:
    """A parent's handles and, on demand, those of a worker."""

    def __init__(self, cpus: int = 0) -> None:
        self._cpus = cpus
        self.arena = Arena.create(2 * PAGESIZE)
        assert board_bytes(SLOTS, CAPACITY) <= PAGESIZE + PAGESIZE // 2
        self.ring = Ring(self.arena, 5632, 256)
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.board = self._handle()
        self.seen = bytearray(CAPACITY)
        self.results: list[Any] = [None] * CAPACITY

    def _handle(self, cpus: int = 0) -> Board:
        return Board(self.arena, 0, self.ring, SLOTS, CAPACITY, self.wake_fd, cpus)

    def worker(self, number: int = 0) -> Consumer:
        return Consumer(self._handle(self._cpus), number)

    def start(self, count: int, epoch: int = EPOCH) -> None:
        self.board.arm_range(0, count, epoch)
        assert self.board.push(epoch, range(count)) == count

    def harvest(self, count: int, epoch: int = EPOCH) -> tuple[int, list[Any]]:
        return self.board.harvest(epoch, count, self.seen, self.results)

    def was_woken(self) -> bool:
        try:
            return os.eventfd_read(self.wake_fd) > 0
        except BlockingIOError:
            return False


@pytest.fixture
def make_pool() -> Iterator[Callable[..., Pool]]:
    fds: list[int] = []

    def make(cpus: int = 0) -> Pool:
        pool = Pool(cpus)
        fds.append(pool.wake_fd)
        return pool

    yield make
    for fd in fds:
        os.close(fd)


HEAP_DATA = 1 << 20


class Space:
    """One heap, and handles on it as several processes have them."""

    def __init__(self, writer: int = 1) -> None:
        self.arena = Arena.create(heap_bytes(HEAP_DATA))
        self.writer = self.handle(writer)
        self.writer.own()

    def handle(self, holder: int) -> Heap:
        return Heap(self.arena, 0, HEAP_DATA, 5, holder)

    def held(self) -> int:
        release_for_the_dead()  # a child that the test forked
        return self.writer.usage()["held_blocks"]


@pytest.fixture
def make_space() -> type[Space]:
    return Space
