"""Heap: forks and deaths of those who hold or write."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

from ringwalk._core.heap import Heap, hold_all, unhold_all

DATA = 1 << 20  # bytes of the heaps that make_space makes
PARENT, WORKER, OTHER, FAR = 0, 1, 2, 100  # holders
MakeSpace = Callable[..., Any]


def content(heap: Heap, block: int, length: int) -> bytes:
    return bytes(heap.peek_block(block, length))


def test_a_forked_child_does_not_drop_its_parents_holds(make_space: MakeSpace, fork: Any) -> None:
    space = make_space()
    views = [space.writer.view(space.writer.put(b"abc"), 0, 3)]
    space.writer.release(views[0].block)

    def body() -> None:
        assert bytes(views.pop()) == b"abc"
        gc.collect()

    assert fork(body).join() == 0
    assert space.held() == 1
    views.clear()
    assert space.held() == 0


def test_a_childs_own_views_hold_for_the_child(
    make_space: MakeSpace, fork: Any, pipe: tuple[int, int]
) -> None:
    space = make_space()
    block = space.writer.put(b"abc")

    def body() -> None:
        views = [space.handle(OTHER).view(block, 0, 3)]
        os.write(pipe[1], b"held")
        signal.pause()
        views.clear()

    child = fork(body)
    os.close(pipe[1])
    assert os.read(pipe[0], 4) == b"held"
    space.writer.release(block)
    assert space.held() == 1
    assert space.writer.put(b"xyz") != block
    child.kill()
    assert child.join() == -signal.SIGKILL
    assert content(space.writer, block, 3) == b"abc"
    space.writer.forget(OTHER)
    assert space.writer.put(b"xyz") == block


def test_hold_all_keeps_what_a_forked_child_may_use(make_space: MakeSpace) -> None:
    space = make_space()
    views = [space.writer.view(space.writer.put(b"abc"), 0, 3)]
    space.writer.release(views[0].block)
    held = hold_all()
    views.clear()
    assert space.held() == 1
    unhold_all(held)
    assert space.held() == 0


def test_a_task_process_allocates_with_a_copy_of_the_lists(
    make_space: MakeSpace, fork: Any
) -> None:
    space = make_space()
    parent = space.handle(PARENT)
    free = [space.writer.put(bytes(100)) for _ in range(3)]
    for block in free:
        space.writer.release(block)

    def task() -> None:
        space.writer.adopt()
        space.writer.put(b"result")

    for _ in range(200):
        child = fork(task)
        assert child.join() == 0
        space.writer.refresh()
        # The parent takes the result; the lane has not heard of its block.
        parent.forget(WORKER)
    assert space.writer.usage()["blocks"] < 40
    used = [space.writer.put(b"x") for _ in range(50)]
    assert len(set(used)) == 50


def test_a_successor_owns_what_a_killed_writer_left(
    make_space: MakeSpace, fork: Any, pipe: tuple[int, int]
) -> None:
    space = make_space()
    kept = space.writer.view(space.writer.put(b"kept" * 20), 0, 80)
    parent = space.handle(PARENT)
    kept = parent.view(kept.block, 0, 80)

    def body() -> None:
        mine = space.handle(WORKER)
        mine.own()
        for length in range(1, 2000, 7):
            mine.put(bytes([length % 256]) * length)
        os.write(pipe[1], b"done")
        signal.pause()

    child = fork(body)
    os.close(pipe[1])
    assert os.read(pipe[0], 4) == b"done"
    child.kill()
    child.join()
    parent.forget(WORKER)
    blocks = parent.usage()["blocks"]
    successor = space.handle(WORKER)
    successor.own()
    used = {successor.put(bytes(length)) for length in range(1, 2000, 7)}
    assert len(used) == len(range(1, 2000, 7))
    assert parent.usage()["blocks"] == blocks
    assert kept.block not in used
    assert bytes(kept) == b"kept" * 20
