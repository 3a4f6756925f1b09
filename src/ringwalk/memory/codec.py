"""Objects to shared memory and back: plain values flat, others by pickle, buffers out of band.

A payload is what a board record points to::

    u64 count | count x (heap u16, flags u16, block u32, offset u64, length u64) | value

The value is written by ``_core.encoder`` if it can be, for a seventh of pickle's time, and else by
pickle's protocol 5, whose first byte begins no plain value. Each large buffer is copied once, into
a block of the sender's heap, and comes back as a view on it. A buffer that already lies in a heap
of the pool is not copied: its block is named instead. Small buffers stay inside the value, where
one copy costs less than a block.

Hand-over: the sender holds what it sent until the receiver holds it. ``dumps`` tells which blocks
the sender must keep; ``loads`` tells the receiver which of them it may release.
"""

from __future__ import annotations

import copy
import copyreg
import io
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import cloudpickle
import numpy as np

from ringwalk._core.arena import Arena
from ringwalk._core.decoder import NOT_PLAIN, Decoder
from ringwalk._core.encoder import Encoder
from ringwalk._core.heap import Heap, HeapView

Inputs = Literal["copy", "readonly"]
"""How a segment gets the buffers of its arguments: a writable private copy, or a read-only view."""

# Below this a buffer travels inside the value: a block of its own costs about as much as
# copying so many bytes twice more.
OUT_OF_BAND_FROM = 8192

_COUNT = struct.Struct("<Q")
_REFERENCE = struct.Struct("<HHIQQ")
_READONLY = 1  # the sender's buffer was read-only: so is the receiver's
_HANDED_OVER = 2  # the sender made the block for this payload and gives it away

_REDUCERS: dict[type, Callable[[Any], Any]] = {}
"""How objects of exactly these classes travel; see ``travels_as``."""

_PICKLE_ERRORS = (pickle.PicklingError, AttributeError, TypeError, NotImplementedError, ValueError)
_NO_BUFFERS = _COUNT.pack(0)


Encoded = tuple[bytes, Sequence[int]]
"""A payload's bytes and the blocks of the own heap that were made for it."""


def travels_as(kind: type, reduce: Callable[[Any], Any]) -> None:
    """Have objects of exactly this class travel between a pool's processes by this reduction.

    For classes whose own pickle is text or a copy more than needed: ``reduce`` answers as
    ``__reduce__`` does, and arrays in its answer go out of band. Holds for this process and those
    forked from it later; pickles that others make are not affected.
    """
    _REDUCERS[kind] = reduce


def _dumps_reduced(
    value: object, *, protocol: int, buffer_callback: Callable[[pickle.PickleBuffer], Any]
) -> bytes:
    """``pickle.dumps`` with the reductions of ``travels_as``."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = {**copyreg.dispatch_table, **_REDUCERS}
    pickler.dump(value)
    return file.getvalue()


def dumps_in_band(value: object) -> bytes:
    """Pickle a value into one piece; by cloudpickle what plain pickle refuses.

    Raises whatever pickle raised when both refuse.
    """
    try:
        return pickle.dumps(value, protocol=5)
    except _PICKLE_ERRORS as plain:
        try:
            return cast("bytes", cloudpickle.dumps(value, protocol=5))
        except _PICKLE_ERRORS:
            raise plain from None


class Codec:
    """Encodes into one heap and decodes from any heap of a pool.

    Args:
        heaps: this process's handles, one a process of the pool; number 0 is the parent's.
        own: number of the heap that this process allocates in.

    Attributes:
        moved: bytes of buffers that were written to shared memory for payloads that this process
            encoded or decoded, in all.
    """

    def __init__(self, arena: Arena, heaps: Sequence[Heap], own: int) -> None:
        self._arena = arena
        self.moved = 0
        self.heaps = heaps
        self.own = heaps[own]
        self._encoder = Encoder(OUT_OF_BAND_FROM, _REDUCERS)
        self._decoder = Decoder()

    def begin(self) -> None:
        """A new map: look again at what classes look like."""
        self._encoder.begin()
        self._decoder.begin()

    def acquaint(self, value: object) -> None:
        """Look at the classes of a value, so that processes forked from this one need not.

        Writes nothing to shared memory. Raises what looking at a class raises.
        """
        self._encoder.dumps(value, _NO_BUFFERS, [])

    def dumps(self, value: object) -> Encoded:
        """Write a value; what pickle refuses as well (lambdas, ``__main__``) goes by cloudpickle.

        Raises whatever pickle raised when both refuse, and HeapFullError; neither leaves a block.
        """
        arrays: list[np.ndarray[Any, Any]] = []
        plain = self._encoder.dumps(value, _NO_BUFFERS, arrays)
        if plain is not None:
            return self._with_arrays(plain, arrays) if arrays else (plain, ())
        try:
            return self._pickle(value, _dumps_reduced if _REDUCERS else pickle.dumps)
        except _PICKLE_ERRORS as refused:
            try:
                return self.dumps_by_value(value)
            except _PICKLE_ERRORS:
                raise refused from None

    def dumps_by_value(self, value: object) -> Encoded:
        """Write a value with the functions and classes of ``__main__`` themselves, not their names.

        Raises as ``dumps`` does.
        """
        return self._pickle(value, cloudpickle.dumps)

    def _with_arrays(self, plain: bytes, arrays: list[np.ndarray[Any, Any]]) -> Encoded:
        blocks: list[int] = []
        try:
            references = [
                # As bytes: numpy exports no buffer of dates.
                self._refer(array, array.reshape(-1, order="A").view(np.uint8).data, blocks)
                for array in arrays
            ]
        except BaseException:
            for block in blocks:
                self.own.release(block)
            raise
        return _assemble(references, plain[_COUNT.size :], blocks)

    def _pickle(self, value: object, dumps: Any) -> Encoded:
        references: list[bytes] = []
        blocks: list[int] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> bool:
            try:
                raw = buffer.raw()
            except BufferError:  # not contiguous: pickle makes the copy
                return True
            if raw.nbytes < OUT_OF_BAND_FROM:
                return True
            references.append(self._refer(memoryview(buffer).obj, raw, blocks))
            return False

        try:
            pickled = dumps(value, protocol=5, buffer_callback=out_of_band)
        except BaseException:
            for block in blocks:
                self.own.release(block)
            raise
        return _assemble(references, pickled, blocks)

    def _refer(self, owner: object, raw: memoryview, blocks: list[int]) -> bytes:
        flags = _READONLY if raw.readonly else 0
        view = _view_under(owner)
        if view is not None and view.of(self._arena):
            address = np.frombuffer(raw, np.uint8).ctypes.data if raw.nbytes else 0
            return _REFERENCE.pack(
                view.index, flags, view.block, view.distance(address), raw.nbytes
            )
        block = self.own.put(raw)
        blocks.append(block)
        self.moved += raw.nbytes
        return _REFERENCE.pack(self.own.index, flags | _HANDED_OVER, block, 0, raw.nbytes)

    def loads(
        self,
        payload: memoryview,
        inputs: Inputs | None = None,
        handed: list[tuple[int, int]] | None = None,
    ) -> Any:
        """Decode a payload. Raises whatever unpickling raises.

        Args:
            inputs: how a segment wants its arguments; None is the parent's way: views, writable
                where the sender's buffer was.
            handed: gets the ``(heap, block)`` pairs that the sender gives away with this payload,
                also when unpickling fails.
        """
        if (value := self._decoder.whole(payload)) is not NOT_PLAIN:  # the commonest, and soonest
            return value
        (count,) = _COUNT.unpack_from(payload)
        start = _COUNT.size + count * _REFERENCE.size
        if start > len(payload):
            raise ValueError(f"a payload of {len(payload)} bytes claims {count} buffers")
        buffers = self._buffers(payload[_COUNT.size : start], inputs, handed) if count else []
        value = self._decoder.loads(payload, start, buffers)
        if value is NOT_PLAIN:
            value = pickle.loads(payload[start:], buffers=buffers)
        return value

    def _buffers(
        self,
        references: memoryview,
        inputs: Inputs | None,
        handed: list[tuple[int, int]] | None,
    ) -> list[Any]:
        buffers: list[Any] = []
        for heap, flags, block, offset, length in _REFERENCE.iter_unpack(references):
            readonly = inputs == "readonly" or (inputs is None and bool(flags & _READONLY))
            view = self.heaps[heap].view(block, offset, length, readonly)
            if flags & _HANDED_OVER and handed is not None:
                handed.append((heap, block))
                self.moved += length
            buffers.append(bytearray(view) if inputs == "copy" else view)
        return buffers


def _assemble(references: list[bytes], value: bytes, blocks: list[int]) -> Encoded:
    return b"".join((_COUNT.pack(len(references)), *references, value)), blocks


def private(value: Any, inputs: Inputs) -> Any:
    """What a segment in the caller's own process gets for an argument: as from another process.

    Raises whatever copying or pickling raises.
    """
    if inputs == "copy":
        return copy.deepcopy(value)
    buffers: list[pickle.PickleBuffer] = []
    pickled = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(pickled, buffers=[memoryview(buffer).toreadonly() for buffer in buffers])


def _view_under(owner: object) -> HeapView | None:
    """The heap view at the bottom of an array's chain of bases, if there is one."""
    while True:
        if isinstance(owner, HeapView):
            return owner
        if isinstance(owner, np.ndarray):
            owner = owner.base
        elif isinstance(owner, memoryview):
            owner = cast("object", owner.obj)
        else:
            return None
