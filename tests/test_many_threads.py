"""Many threads use the same objects at once.

On a build of Python without the GIL these are the tests of the critical sections; with the GIL a
thread switch in the middle of one is what they would find.
"""

from __future__ import annotations

import gc
import mmap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ringwalk import Executor, Mapper, ThreadMapper, WalkerBlock, WorkerMapper
from ringwalk._core.arena import Arena
from ringwalk._core.heap import Heap, heap_bytes

THREADS = 6


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """What ``work(k)`` returns in each of some threads that begin together."""
    barrier = threading.Barrier(THREADS)
    results: list[Any] = [None] * THREADS

    def run(k: int) -> None:
        barrier.wait()
        try:
            results[k] = work(k)
        except BaseException as error:
            results[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def filled(k: int) -> Any:
    return np.full(20_000, k)


def make_heap() -> Heap:
    arena = Arena.create(heap_bytes(1 << 22))
    arena.reserve(0, mmap.PAGESIZE)
    heap = Heap(arena, 0, 1 << 22, 0, 0)
    heap.own()
    return heap


def test_threads_make_and_drop_views_of_one_block() -> None:
    """No view is counted twice or not at all: the block is held until the last has gone."""
    heap = make_heap()
    block = heap.put(bytes(range(200)))

    def look(k: int) -> bool:
        return all(bytes(heap.view(block, k, 4)) == bytes(range(k, k + 4)) for _ in range(5_000))

    kept = heap.view(block, 0, 4)
    heap.release(block)
    assert in_threads(look) == [True] * THREADS
    assert heap.usage()["held_blocks"] == 1
    del kept
    assert heap.usage()["held_blocks"] == 0


def test_threads_allocate_in_one_heap() -> None:
    """No block is given to two."""
    heap = make_heap()

    def fill(k: int) -> bool:
        right = True
        for n in range(3_000):
            length = 100 + 64 * (n % 5)
            block = heap.put(bytes([k]) * length)
            right &= bytes(heap.peek_block(block, length)) == bytes([k]) * length
            heap.release(block)
        return right

    assert in_threads(fill) == [True] * THREADS
    assert heap.usage()["held_blocks"] == 0


def test_threads_begin_rows_of_one_block() -> None:
    """No two threads get the same row object."""
    begin_row = WalkerBlock(THREADS, x="f8").beginner()

    def begin(k: int) -> bool:
        return all(begin_row(k)._index == k for _ in range(20_000))

    assert in_threads(begin) == [True] * THREADS


def test_threads_make_and_drop_views_of_the_same_results() -> None:
    """Counts of views, and the bit that holds a block, survive makers and droppers at once."""
    with WorkerMapper(filled, num_workers=2) as mapper:
        for cycle in range(5):
            shared = mapper.map(range(cycle, cycle + 20))

            def look(k: int, shared: list[Any] = shared, cycle: int = cycle) -> bool:
                mine = list(shared)
                right = True
                for _ in range(30):
                    parts = [array[k::7] for array in mine]
                    right &= all((part == cycle + n).all() for n, part in enumerate(parts))
                return right

            assert in_threads(look) == [True] * THREADS
        del shared
        gc.collect()


def test_threads_share_an_executor() -> None:
    with Executor(2) as executor:

        def work(k: int) -> bool:
            arrays = [executor.submit(filled, 100 * k + n) for n in range(40)]
            return all((future.result() == 100 * k + n).all() for n, future in enumerate(arrays))

        assert in_threads(work) == [True] * THREADS


@pytest.mark.parametrize("kind", [ThreadMapper, WorkerMapper], ids=lambda kind: kind.__name__)
def test_threads_share_a_mapper(kind: type[Mapper]) -> None:
    with kind(filled, num_workers=2) as mapper:

        def work(k: int) -> bool:
            return all(
                (array == n).all()
                for cycle in range(5)
                for n, array in enumerate(mapper.map(range(k + 10)))
            )

        assert in_threads(work) == [True] * THREADS


def step(row: Any) -> None:
    row.x += 1.0


def test_rows_of_a_block_go_to_threads_one_by_one() -> None:
    """No two threads get the same row object."""
    block = WalkerBlock(500, x="f8")
    with ThreadMapper(step, num_workers=THREADS) as mapper:
        for _ in range(5):
            mapper.map(block)
    assert (block["x"] == 5.0).all()
