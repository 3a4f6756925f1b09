"""Heap: who holds a block keeps it; who holds none gets it again."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import weakref
from collections.abc import Callable
from mmap import PAGESIZE
from typing import Any

import numpy as np
import pytest

from ringwalk._core.arena import Arena
from ringwalk._core.heap import (
    MAX_HOLDERS,
    Heap,
    heap_bytes,
    hold_all,
    locate,
    unhold_all,
)
from ringwalk.errors import HeapFullError, RingwalkError

DATA = 1 << 20  # bytes of the heaps that make_space makes
PARENT, WORKER, OTHER, FAR = 0, 1, 2, 100  # holders
MakeSpace = Callable[..., Any]


def content(heap: Heap, block: int, length: int) -> bytes:
    return bytes(heap.peek_block(block, length))


# --- blocks and views ----------------------------------------------------------------------------


def test_bytes_come_back(make_space: MakeSpace) -> None:
    space = make_space()
    data = os.urandom(3000)
    block = space.writer.put(data)
    assert content(space.handle(PARENT), block, 3000) == data
    place = space.writer.place(block)
    assert bytes(space.writer.peek(place, 3000)) == data
    assert space.writer.usage() == {
        "blocks": 1,
        "held_blocks": 1,
        "held_bytes": 3072,
        "committed_bytes": 256 << 10,
    }


@pytest.mark.parametrize("length", [0, 1, 64, 65, PAGESIZE, PAGESIZE + 1, 70_000, DATA])
def test_any_length_up_to_the_heaps(make_space: MakeSpace, length: int) -> None:
    space = make_space()
    data = os.urandom(length)
    block = space.writer.put(data)
    assert bytes(space.writer.view(block, 0, length)) == data
    with pytest.raises(RingwalkError, match="no correct process writes"):
        space.writer.view(block, 0, 2 * DATA)


def test_large_blocks_start_on_a_page(make_space: MakeSpace) -> None:
    space = make_space()
    for length in (10, PAGESIZE, 100, 3 * PAGESIZE):
        place = space.writer.place(space.writer.put(bytes(length)))
        assert place % (PAGESIZE if length >= PAGESIZE else 64) == 0


def test_a_view_is_a_buffer_on_shared_memory(make_space: MakeSpace) -> None:
    space = make_space()
    block = space.writer.put(bytes(100))
    view = space.writer.view(block, 8, 80)
    assert (len(view), view.index, view.block, view.offset) == (80, 5, block, 8)
    array = np.frombuffer(memoryview(view), dtype=np.int64)
    array[:] = range(10)
    assert content(space.handle(OTHER), block, 88)[8:] == array.tobytes()
    assert locate([space.writer], array[3:]) == (0, block, 8 + 24, 128)
    assert locate([make_space().writer], array) is None


def test_a_readonly_view_cannot_be_written(make_space: MakeSpace) -> None:
    space = make_space()
    view = space.writer.view(space.writer.put(b"abc"), 0, 3, True)
    assert memoryview(view).readonly
    assert not np.frombuffer(memoryview(view), np.uint8).flags.writeable
    assert space.writer.peek_block(view.block, 3).readonly


def test_only_the_owner_allocates(make_space: MakeSpace) -> None:
    space = make_space()
    with pytest.raises(RuntimeError, match="owner"):
        space.handle(PARENT).put(b"abc")


@pytest.mark.parametrize("holder", [MAX_HOLDERS, 2**32 - 1])
def test_a_holder_has_a_bit(make_space: MakeSpace, holder: int) -> None:
    space = make_space()
    calls: list[Callable[[], object]] = [
        lambda: space.handle(holder),
        lambda: space.writer.release_for(0, holder),
        lambda: space.writer.forget(holder),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"holder {holder}"):
            call()


def test_numbers_from_a_peer_are_checked(make_space: MakeSpace) -> None:
    space = make_space()
    block = space.writer.put(bytes(64))
    heap = space.handle(PARENT)
    calls: list[Callable[[], object]] = [
        lambda: heap.view(block + 1, 0, 1),
        lambda: heap.view(block, 65, 0),
        lambda: heap.view(block, 1, 64),
        lambda: heap.view(block, 2**64 - 1, 2),
        lambda: heap.peek_block(2**32 - 1, 1),
        lambda: heap.peek(2**63, 1),
        lambda: heap.peek(0, 2**64 - 1),
        lambda: heap.place(block + 1),
        lambda: heap.release(block + 1),
        lambda: heap.release_for(block + 1, OTHER),
    ]
    for call in calls:
        with pytest.raises(RingwalkError, match="no correct process writes"):
            call()
    assert space.held() == 1


def test_a_heap_fits_into_its_arena(make_space: MakeSpace) -> None:
    arena = Arena.create(heap_bytes(DATA) - PAGESIZE)
    with pytest.raises(RingwalkError):
        Heap(arena, 0, DATA, 0, 0)
    with pytest.raises(RingwalkError):
        Heap(arena, 2**63, DATA, 0, 0)


# --- holding -------------------------------------------------------------------------------------


def test_a_block_is_held_until_its_last_view_dies(make_space: MakeSpace) -> None:
    space = make_space()
    block = space.writer.put(b"abc")
    heap = space.handle(PARENT)
    views = [heap.view(block, 0, 3), heap.view(block, 1, 2)]
    space.writer.release(block)
    array = np.frombuffer(memoryview(views.pop()), np.uint8)
    views.clear()
    gc.collect()
    assert space.held() == 1
    assert bytes(array) == b"bc"
    del array
    assert space.held() == 0


def test_what_was_put_is_held_until_release_whatever_views_come_and_go(
    make_space: MakeSpace,
) -> None:
    space = make_space()
    block = space.writer.put(b"abc")
    for _ in range(2):
        view = space.writer.view(block, 0, 3)
        del view
        assert space.held() == 1
    view = space.writer.view(block, 0, 3)
    space.writer.release(block)
    assert space.held() == 1
    del view
    assert space.held() == 0


def test_a_view_in_a_dead_cycle_lets_go(make_space: MakeSpace) -> None:
    space = make_space()
    heap = space.handle(PARENT)
    block = space.writer.put(b"abc")
    cycle: list[object] = [heap.view(block, 0, 3)]
    cycle.append(cycle)
    space.writer.release(block)
    del cycle
    gc.collect()
    assert space.held() == 0


def test_a_handle_in_the_same_dead_cycle_is_there_till_the_last_view(
    make_space: MakeSpace,
) -> None:
    space = make_space()
    block = space.writer.put(b"abc")
    heap = space.handle(PARENT)
    cycle: list[object] = [heap, heap.view(block, 0, 3)]
    cycle.append(cycle)
    # From Python 3.14 the collector would clear the handle's own dictionary first.
    assert not any(map(gc.is_tracked, cycle[:2]))
    space.writer.release(block)
    del cycle, heap
    gc.collect()
    assert space.held() == 0


def test_a_ctrl_c_is_not_lost_as_a_handle_dies(make_space: MakeSpace) -> None:
    interrupt = ctypes.PyDLL(None).PyErr_SetInterrupt
    interrupt.argtypes = [ctypes.py_object]
    handles = [make_space().handle(PARENT)]
    pressed = weakref.ref(handles[0], interrupt)  # newest first: before what else sees its end
    with pytest.raises(KeyboardInterrupt):
        handles.clear()
    assert pressed() is None


def test_handles_may_be_made_while_all_are_walked_through(make_space: MakeSpace) -> None:
    space = make_space()
    made = [space.handle(OTHER)]

    def make(*_: object) -> None:
        """As another thread, which may go on wherever Python code runs."""
        made.append(space.handle(OTHER))

    before = sys.gettrace()
    sys.settrace(make)
    try:
        held = hold_all()
    finally:
        sys.settrace(before)
    unhold_all(held)


def test_views_may_die_while_all_are_told(make_space: MakeSpace) -> None:
    space = make_space()
    views = [space.writer.view(space.writer.put(b"abc"), 0, 3) for _ in range(9)]
    cycle: list[object] = [views.pop()]
    cycle.append(cycle)
    thresholds = gc.get_threshold()
    gc.set_threshold(1)  # before Python 3.12 the collector runs as soon as something is made
    try:
        del cycle
        told = space.writer.viewed()
    finally:
        gc.set_threshold(*thresholds)
    assert len(told) >= len(views)


def test_free_blocks_serve_again(make_space: MakeSpace) -> None:
    space = make_space()
    blocks = [space.writer.put(bytes(length)) for length in (100, 5000, 90_000)]
    for block in blocks:
        space.writer.release(block)
    assert [space.writer.put(bytes(length)) for length in (100, 5000, 90_000)] == blocks


@pytest.mark.parametrize("length", [40, 5000, 90_000])
def test_steady_use_does_not_grow(make_space: MakeSpace, length: int) -> None:
    space = make_space()
    parent = space.handle(PARENT)
    for _ in range(3000):
        # As a result goes: the parent takes it and drops the worker's hold.
        block = space.writer.put(bytes(length))
        view = parent.view(block, 0, length)
        parent.release_for(block, WORKER)
        del view
    usage = space.writer.usage()
    assert usage["held_blocks"] == 0
    assert usage["blocks"] < 40


def test_a_shortage_is_an_error_and_leaves_nothing(make_space: MakeSpace) -> None:
    space = make_space()
    first = space.writer.put(bytes(DATA // 2))
    before = space.writer.usage()
    for length in (DATA // 2 + 1, DATA, DATA + 1, 3 * DATA):
        with pytest.raises(HeapFullError):
            space.writer.put(bytes(length))
        assert space.writer.usage() == before
    space.writer.release(first)
    assert space.writer.put(bytes(DATA // 2)) == first


def test_everything_is_looked_through_before_a_shortage_is_reported(make_space: MakeSpace) -> None:
    space = make_space()
    parent = space.handle(PARENT)
    blocks = []
    with contextlib.suppress(HeapFullError):
        while True:
            blocks.append(space.writer.put(bytes(60_000)))
    for block in blocks:
        parent.release_for(block, WORKER)  # the writer is not told
    assert sorted(space.writer.put(bytes(60_000)) for _ in blocks) == blocks


def test_hand_over_to_a_holder_in_another_word(make_space: MakeSpace) -> None:
    space = make_space(writer=FAR)
    parent, block = space.handle(PARENT), space.writer.put(b"abc")
    view = parent.view(block, 0, 3)
    parent.release_for(block, FAR)
    assert space.writer.put(b"xyz") != block
    assert bytes(view) == b"abc"


def test_forget_drops_one_holder_everywhere(make_space: MakeSpace) -> None:
    space = make_space()
    other, far = space.handle(OTHER), space.handle(FAR)
    blocks = [space.writer.put(b"abc") for _ in range(4)]
    kept = [far.view(block, 0, 3) for block in blocks[:2]]
    lost = [other.view(block, 0, 3) for block in blocks]
    for block in blocks:
        space.writer.release(block)
    space.handle(PARENT).forget(OTHER)
    assert space.held() == len(kept) == 2
    del lost, kept
    assert space.held() == 0


def test_memory_outlives_every_handle_but_a_view(make_space: MakeSpace) -> None:
    space = make_space()
    fd = space.arena.fileno()
    view = space.writer.view(space.writer.put(b"abc" * 1000), 0, 3000)
    array = np.frombuffer(memoryview(view), np.uint8)
    del space, view
    gc.collect()
    assert array.tobytes() == b"abc" * 1000
    assert os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:ringwalk")
    del array
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
