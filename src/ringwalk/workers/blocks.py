"""The walker blocks of a pool's maps: the numbers under which its workers ask for them."""

from __future__ import annotations

import weakref

from ringwalk.memory import WalkerBlock


class KnownBlocks:
    """Numbers blocks; keeps none of them alive."""

    def __init__(self) -> None:
        self._blocks: dict[int, weakref.ref[WalkerBlock]] = {}
        self._next = 0

    def number_of(self, block: WalkerBlock) -> int:
        """The number under which workers know a block; given at its first map."""
        for number, known in self._blocks.items():
            if known() is block:
                return number
        self._next += 1
        self._blocks[self._next] = weakref.ref(block)
        return self._next

    def living(self) -> tuple[int, ...]:
        """Numbers of the blocks that still exist; workers close the others."""
        self._blocks = {n: known for n, known in self._blocks.items() if known() is not None}
        return tuple(self._blocks)

    def find_descriptor(self, number: int) -> int | None:
        """The descriptor of a block; None when it is gone."""
        known = self._blocks.get(number)
        block = None if known is None else known()
        return None if block is None else block.fileno()
