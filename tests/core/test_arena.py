"""Arena: sealed, nameless memory that is promised before it is touched."""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import stat
from collections.abc import Callable
from mmap import PAGESIZE
from typing import Any

import pytest

from ringwalk._core.arena import Arena
from ringwalk._core.ring import Ring
from ringwalk.errors import HeapFullError

F_GET_SEALS = 1034
F_SEAL_SHRINK, F_SEAL_GROW = 2, 4


def promised(arena: Arena) -> int:
    return os.fstat(arena.fileno()).st_blocks * 512


def test_is_zero_and_private_to_the_user_and_closed_on_exec() -> None:
    arena = Arena.create(4 * PAGESIZE)
    assert arena.size == 4 * PAGESIZE
    status = os.fstat(arena.fileno())
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert not os.get_inheritable(arena.fileno())
    with mmap.mmap(arena.fileno(), arena.size) as memory:
        assert memory[:] == bytes(arena.size)


def test_has_no_name() -> None:
    arena = Arena.create(PAGESIZE)
    assert os.readlink(f"/proc/self/fd/{arena.fileno()}") == "/memfd:ringwalk (deleted)"


@pytest.mark.parametrize("size", [0, 2 * PAGESIZE])
def test_nobody_can_resize_it_under_a_reader(size: int) -> None:
    arena = Arena.create(PAGESIZE)
    assert fcntl.fcntl(arena.fileno(), F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW) == 6
    with pytest.raises(PermissionError):
        os.ftruncate(arena.fileno(), size)


def test_memory_is_promised_range_by_range() -> None:
    arena = Arena.create(1 << 40)
    assert promised(arena) == 0
    arena.reserve(1 << 39, 3 * PAGESIZE)
    assert promised(arena) == 3 * PAGESIZE
    arena.reserve(1 << 39, 3 * PAGESIZE)
    assert promised(arena) == 3 * PAGESIZE


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        pytest.param(0, 1 << 43, id="more than the machine has"),
        pytest.param(0, (1 << 44) + 1, id="beyond the end"),
        pytest.param((1 << 44) + 1, 0, id="behind the end"),
        pytest.param(PAGESIZE, (1 << 64) - PAGESIZE, id="wrapping round"),
    ],
)
def test_a_shortage_is_an_error_and_changes_nothing(offset: int, length: int) -> None:
    arena = Arena.create(1 << 44)
    with pytest.raises(HeapFullError):
        arena.reserve(offset, length)
    assert promised(arena) == 0
    arena.reserve(0, PAGESIZE)
    assert promised(arena) == PAGESIZE


def test_a_full_address_space_is_an_error_and_leaves_nothing(fork: Any) -> None:
    def body() -> None:
        before = os.listdir("/proc/self/fd")
        resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
        with pytest.raises(OSError, match="Cannot allocate memory"):
            Arena.create(1 << 41)
        assert os.listdir("/proc/self/fd") == before

    assert fork(body).join() == 0


def test_size_zero_is_refused() -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        Arena.create(0)


def test_another_process_attaches_by_descriptor(fork: Any) -> None:
    arena = Arena.create(PAGESIZE)

    def body() -> None:
        mine = Arena.attach(os.dup(arena.fileno()))
        assert mine.size == arena.size
        theirs = Ring(mine, 0, 4)
        assert theirs.pop() == 11
        theirs.push([12])

    ring = Ring(arena, 0, 4)
    ring.push([11])
    assert fork(body).join() == 0
    assert ring.pop() == 12


def test_attach_owns_the_descriptor_also_when_it_fails(pipe: tuple[int, int]) -> None:
    arena = Arena.create(PAGESIZE)
    fd = os.dup(arena.fileno())
    attached = Arena.attach(fd)
    assert attached.fileno() == fd
    del attached
    for taken, kind in ((fd, "Bad file"), (pipe[0], "Bad file|Invalid|No such device")):
        with pytest.raises(OSError, match=kind):
            Arena.attach(taken)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(taken)


def test_lives_as_long_as_a_handle_on_it() -> None:
    arena = Arena.create(PAGESIZE)
    fd = arena.fileno()
    ring = Ring(arena, 0, 4)
    del arena
    assert ring.push([7]) == 1
    assert ring.pop() == 7
    del ring
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        (8, "multiple of 64"),
        (PAGESIZE, "outside"),
        (PAGESIZE - 64, "outside"),
        ((1 << 64) - 64, "outside"),
    ],
)
def test_a_handle_lies_inside_on_a_cache_line(offset: int, message: str) -> None:
    make: Callable[[Arena, int, int], Ring] = Ring
    with pytest.raises(ValueError, match=message):
        make(Arena.create(PAGESIZE), offset, 4)
