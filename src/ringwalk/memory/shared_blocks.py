"""Large buffers that several open calls have in common, written once."""

from __future__ import annotations

import numpy as np

from ringwalk._core.heap import Heap, HeapView

# Of a smaller one another copy costs less than looking for the first.
_LEAST = 65536


class SharedBlocks:
    """Writes buffers into a heap's blocks, each with as many holds as there are users.

    A buffer is looked for by its address, and found if its bytes are what they were: one that was
    changed since an earlier call is written anew, for a call means its arguments as they are when
    it is submitted. Whoever gets such a block may not write in it. Not for two threads at once.
    """

    def __init__(self, heap: Heap) -> None:
        self._heap = heap
        self._blocks: dict[tuple[int, int], int] = {}  # address and bytes -> the last block of it
        self._users: dict[int, int] = {}
        self._places: dict[int, tuple[int, int]] = {}

    def put(self, data: memoryview | HeapView, noted: list[int]) -> int:
        """The block that has these bytes; ``noted`` gets it. Raises HeapFullError."""
        if len(data) < _LEAST:
            return self._heap.put(data, noted)
        place = np.frombuffer(memoryview(data), np.uint8).ctypes.data, len(data)
        block = self._blocks.get(place)
        if block is None or not self._heap.begins_with(block, data):
            block = self._heap.put(data)
            self._blocks[place] = block
            self._places[block] = place
        self._users[block] = self._users.get(block, 0) + 1
        noted.append(block)
        return block

    def release(self, block: int) -> None:
        """Drop one user's hold on a block of the heap, shared or not."""
        users = self._users.pop(block, 1)
        if users > 1:
            self._users[block] = users - 1
            return
        place = self._places.pop(block, None)
        if place is not None and self._blocks.get(place) == block:
            del self._blocks[place]
        self._heap.release(block)
