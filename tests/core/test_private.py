"""Private copies: written by one, seen by nobody else, and what they were after ``restore``."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ringwalk._core.arena import Arena
from ringwalk._core.heap import Heap, heap_bytes
from ringwalk._core.private import PrivateCopy, restore

PAGE = os.sysconf("SC_PAGESIZE")


MakeHeap = Callable[[], Heap]


@pytest.fixture
def make_heap() -> MakeHeap:
    def make() -> Heap:
        data = 64 << 20
        heap = Heap(Arena.create(heap_bytes(data)), 0, data, 0, 0)
        heap.own()
        return heap

    return make


def shared(heap: Heap, data: bytes) -> Any:
    return heap.view(heap.put(data), 0, len(data))


def array_on(buffer: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(buffer, np.uint8)


@pytest.mark.parametrize("length", [1, PAGE, 3 * PAGE + 5, 5000 * PAGE])
def test_what_was_written_is_gone_after_restore(make_heap: MakeHeap, length: int) -> None:
    data = np.random.default_rng(1).bytes(length)
    view = shared(make_heap(), data)
    buffers: list[Any] = [PrivateCopy(view)]
    kept = buffers[0]
    places = np.random.default_rng(2).integers(0, length, 20)
    for _ in range(3):
        array_on(buffers[0])[places] ^= 255
        assert bytes(buffers[0]) != data
        assert bytes(view) == data
        del kept
        restore(buffers)
        kept = buffers[0]
        assert bytes(kept) == data


def test_a_copy_that_is_kept_stays_as_it_is(make_heap: MakeHeap) -> None:
    data = bytes(10 * PAGE)
    buffers: list[Any] = [PrivateCopy(shared(make_heap(), data))]
    kept = array_on(buffers[0])
    kept[0] = 1
    restore(buffers)
    assert bytes(buffers[0]) == data
    array_on(buffers[0])[0] = 2
    assert kept[0] == 1
    del buffers
    assert kept[0] == 1
    assert not kept[1:].any()


def test_the_block_is_held_as_long_as_a_copy_lives(make_heap: MakeHeap) -> None:
    heap = make_heap()
    block = heap.put(bytes(PAGE))
    copy = PrivateCopy(heap.view(block, 0, PAGE))
    heap.release(block)
    assert heap.usage()["held_blocks"] == 1
    del copy
    assert heap.usage()["held_blocks"] == 0


def test_without_a_free_descriptor_it_is_restored_all_the_same(make_heap: MakeHeap) -> None:
    data = np.random.default_rng(1).bytes(20 * PAGE)
    buffers: list[Any] = [PrivateCopy(shared(make_heap(), data))]
    array_on(buffers[0])[::PAGE] ^= 255
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        restore(buffers)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert bytes(buffers[0]) == data


def read_all(array: np.ndarray[Any, Any]) -> None:
    array.sum()


def write_one_page(array: np.ndarray[Any, Any]) -> None:
    array[0] = 1


@pytest.mark.parametrize(("use", "pages"), [(read_all, 0), (write_one_page, 1)])
def test_only_written_pages_are_copied(
    make_heap: MakeHeap, use: Callable[[np.ndarray[Any, Any]], None], pages: int
) -> None:
    """The kernel keeps count of the pages that are no file's."""
    buffers: list[Any] = [PrivateCopy(shared(make_heap(), bytes(1000 * PAGE)))]
    array = array_on(buffers[0])
    use(array)
    assert copied_pages(array) == pages


def copied_pages(array: np.ndarray[Any, Any]) -> int:
    with open("/proc/self/smaps") as file:
        lines = iter(file)
        for line in lines:
            start, _, end = line.split()[0].partition("-")
            if end and int(start, 16) <= array.ctypes.data < int(end, 16):
                break
        anonymous = next(line for line in lines if line.startswith("Anonymous:"))
        return int(anonymous.split()[1]) * 1024 // PAGE
