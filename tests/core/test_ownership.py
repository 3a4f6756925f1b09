"""Ownership: a process knows what it made from what it inherited, however it was forked."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringwalk._core.heap import Heap
from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.process import fork as core_fork

_CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
_LIBC = ctypes.PyDLL(None)  # keeps the GIL, as a fork must


def bare_clone() -> int:
    """A fork that no hook hears of, neither Python's nor the C library's."""
    return _LIBC.syscall(_CLONE, signal.SIGCHLD, 0, 0, 0, 0)


FORKS: dict[str, Callable[[], int]] = {
    "os.fork": os.fork,
    "libc": lambda: int(_LIBC.fork()),
    "clone": bare_clone,
    "ringwalk": core_fork,
}
kinds_of_fork = pytest.mark.parametrize("fork_now", FORKS.values(), ids=FORKS)


def holds_in_child(fork_now: Callable[[], int], check: Callable[[], bool]) -> bool:
    """Fork and say what ``check`` returned in the child, which runs nothing else."""
    pid = fork_now()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


@kinds_of_fork
def test_a_forked_child_owns_nothing_of_its_parents(fork_now: Callable[[], int]) -> None:
    token = owner_token()
    assert is_owner(token)
    assert holds_in_child(fork_now, lambda: not is_owner(token))
    assert is_owner(token)
    assert owner_token() == token


@kinds_of_fork
def test_no_descendant_has_the_number_of_an_ancestor(fork_now: Callable[[], int]) -> None:
    mine = owner_token()

    def grandchild_differs() -> bool:
        child = owner_token()
        different = child != mine and is_owner(child)
        return different and holds_in_child(
            fork_now, lambda: owner_token() not in (mine, child) and not is_owner(child)
        )

    assert holds_in_child(fork_now, grandchild_differs)


@kinds_of_fork
def test_the_last_view_in_a_child_keeps_its_parents_block(
    make_space: Callable[..., Any], fork_now: Callable[[], int]
) -> None:
    space = make_space()
    views = [space.writer.view(space.writer.put(b"abc"), 0, 3)]
    space.writer.release(views[0].block)

    def drop() -> bool:
        views.clear()
        return True

    assert holds_in_child(fork_now, drop)
    assert space.held() == 1
    views.clear()
    assert space.held() == 0


@kinds_of_fork
def test_an_inherited_handle_changes_nothing(
    make_space: Callable[..., Any], fork_now: Callable[[], int]
) -> None:
    space = make_space()
    writer: Heap = space.writer
    put = writer.put(b"abc")
    view = writer.view(writer.put(b"def"), 0, 3)
    held = space.held()

    def try_all() -> bool:
        writer.release(put)
        writer.release_for(put, writer.holder)
        writer.forget(writer.holder)
        refused = 0
        for call in (
            lambda: writer.put(b"x"),
            lambda: writer.view(put, 0, 3),
            lambda: writer.keep(view.block),
        ):
            try:
                call()
            except RuntimeError as error:
                refused += "forked this one" in str(error)
        return refused == 3

    assert holds_in_child(fork_now, try_all)
    assert space.held() == held


def test_a_thread_local_that_a_child_clears_keeps_its_parents_block(
    make_space: Callable[..., Any],
) -> None:
    space = make_space()
    local = threading.local()
    box = [space.writer.view(space.writer.put(b"abc"), 0, 3)]
    space.writer.release(box[0].block)
    taken, leave = threading.Event(), threading.Event()

    def keep() -> None:
        local.view = box.pop()
        taken.set()
        leave.wait()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        assert taken.wait(60)
        assert holds_in_child(os.fork, lambda: True)
        assert space.held() == 1
    finally:
        leave.set()
        thread.join()


_DEAF = """
#define _GNU_SOURCE
#include <stddef.h>
int madvise(void *address, size_t length, int advice) { return 0; }
"""

_LOOK = """
import os
from ringwalk._core.ownership import is_owner, owner_token
token = owner_token()
pid = os.fork()
if pid == 0:
    os._exit(is_owner(token))
assert is_owner(token)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_an_emulator_that_ignores_advice_is_noticed(tmp_path: Path) -> None:
    source, library = tmp_path / "deaf.c", tmp_path / "deaf.so"
    source.write_text(_DEAF)
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
    subprocess.run(
        [sys.executable, "-c", _LOOK],
        env={**os.environ, "LD_PRELOAD": str(library)},
        check=True,
        timeout=120,
    )
