"""Large buffers of a payload: where they lie in the heaps, and who may let them go.

A buffer is written as a reference, 24 bytes: heap u16, flags u16, block u32, offset u64, length
u64. One that already lies in a heap of the pool is not copied, its block is named.

The parent names what it has, and goes on holding it. A worker has to give its hold away with the
payload, which it can only if nothing else in it refers to the block, not even an array that the
segment put aside: so a worker's buffers are settled when it has let go of the value, and what is
still in use then is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np

from ringwalk._core.heap import Heap, HeapView, locate
from ringwalk._core.private import PrivateCopy
from ringwalk.memory.shared_blocks import SharedBlocks

Inputs = Literal["copy", "readonly"]
"""How a segment gets the buffers of its arguments: a writable private copy, or a read-only view."""

REFERENCE = struct.Struct("<HHIQQ")
_READONLY = 1  # the sender's buffer was read-only: so is the receiver's
_HANDED_OVER = 2  # the sender gives its hold away
_COPIED = 4  # the sender copied it for this payload
_PRIVATE = 8  # for one task alone, which may write in it

# A block goes along with a part of it if the part is at least so much of it, else the part is
# copied: it would keep all of the block from being used again.
_LEAST_PART = 1 / 4


class Outgoing:
    """The buffers of one payload, on their way out.

    Args:
        heaps: in which a buffer that lies there is not copied.
        gives: whether this process gives its holds away: a worker, not the parent.
        private: whether the receiver may write in the blocks that are written for it.
        shared: where what is written is looked for first, and its holds are counted.

    Attributes:
        made: blocks of the own heap that were written.
        moved: bytes of them.
    """

    def __init__(
        self,
        heaps: Sequence[Heap],
        own: Heap,
        *,
        gives: bool,
        private: bool,
        shared: SharedBlocks | None = None,
    ) -> None:
        self.made: list[int] = []
        self.moved = 0
        self._heaps = heaps
        self._own = own
        self._gives = gives
        self._private = private
        self._put = own.put if shared is None else shared.put
        self._release = own.release if shared is None else shared.release
        self._references: list[bytes] = []
        self._open: dict[int, HeapView] = {}  # number of a reference -> what may be given away
        self._named: set[tuple[int, int]] = set()
        self._kept: list[tuple[Heap, int]] = []

    def add(self, raw: memoryview) -> None:
        """Take a contiguous buffer along. Raises HeapFullError."""
        found = locate(self._heaps, raw) if self._heaps else None
        if found is None:
            self._references.append(self._copied(raw, raw.readonly))
            return
        index, block, offset, size = found
        if not self._gives:
            flags = _READONLY if raw.readonly else 0
            self._references.append(REFERENCE.pack(index, flags, block, offset, raw.nbytes))
        elif raw.nbytes < size * _LEAST_PART or (index, block) in self._named:
            self._references.append(self._copied(raw, raw.readonly))
        else:
            self._named.add((index, block))
            view = self._heaps[index].view(block, offset, raw.nbytes, raw.readonly)
            self._open[len(self._references)] = view
            self._references.append(b"")

    def _copied(self, raw: memoryview | HeapView, readonly: bool) -> bytes:
        block = self._put(raw, self.made)
        self.moved += len(raw)
        flags = _HANDED_OVER | _COPIED
        flags |= (_READONLY if readonly else 0) | (_PRIVATE if self._private else 0)
        return REFERENCE.pack(self._own.index, flags, block, 0, len(raw))

    def settle(self) -> list[bytes]:
        """The sender has let go of the value: give away what is nobody's now, copy the rest.

        Returns the references, in order.
        """
        while self._open:
            number, view = self._open.popitem()
            heap = self._heaps[view.index]
            if heap.keep(view.block):
                self._kept.append((heap, view.block))
                flags = _HANDED_OVER | (_READONLY if view.readonly else 0)
                place = (view.index, flags, view.block, view.offset, len(view))
                self._references[number] = REFERENCE.pack(*place)
            else:
                self._references[number] = self._copied(view, view.readonly)
        return self._references

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.withdraw()

    def withdraw(self) -> None:
        """Nothing is sent after all."""
        self._open.clear()
        for block in self.made:
            self._release(block)
        for heap, block in self._kept:
            heap.release(block)


def take_in(
    references: memoryview,
    heaps: Sequence[Heap],
    inputs: Inputs | None,
    handed: list[tuple[int, int]] | None,
) -> tuple[list[Any], int]:
    """The buffers that were named, and the bytes of them that the sender copied.

    Args:
        inputs, handed: see ``Codec.loads``.
    """
    buffers: list[Any] = []
    copied = 0
    for index, flags, block, offset, length in REFERENCE.iter_unpack(references):
        readonly = inputs == "readonly" or bool(flags & _READONLY)
        heap = heaps[index]
        if inputs == "readonly":  # what was given away is not a segment's to keep: see given
            private = heap.given(block)
        else:
            private = inputs == "copy" and not flags & _PRIVATE
        view = heap.view(block, offset, length, readonly)
        if flags & _HANDED_OVER and handed is not None:
            handed.append((index, block))
            copied += length if flags & _COPIED else 0
        if private:
            own = np.frombuffer(view, np.uint8).copy()
            own.setflags(write=not readonly)
            buffers.append(own)
        else:
            buffers.append(view)
    return buffers, copied


def take_in_again(references: memoryview, heaps: Sequence[Heap], inputs: Inputs) -> list[Any]:
    """Buffers for a value that is read many times: what can be written is a ``PrivateCopy``."""
    buffers: list[Any] = []
    for index, flags, block, offset, length in REFERENCE.iter_unpack(references):
        readonly = inputs == "readonly" or bool(flags & _READONLY)
        view = heaps[index].view(block, offset, length, readonly)
        buffers.append(view if readonly else PrivateCopy(view))
    return buffers
