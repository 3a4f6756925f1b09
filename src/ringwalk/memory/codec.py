"""Objects to shared memory and back: plain values flat, others by pickle, buffers out of band.

A payload is what a board record points to::

    u64 count | count x (heap u16, flags u16, block u32, offset u64, length u64) | value

The value is written by ``_core.encoder`` if it can be, for a seventh of pickle's time, and else by
pickle's protocol 5, whose first byte begins no plain value. Each large buffer is copied once, into
a block of the sender's heap, and comes back as a view on it. A buffer that already lies in a heap
of the pool is not copied: its block is named instead. Small buffers stay inside the value, where
one copy costs less than a block.

Hand-over: the sender holds what it sent until the receiver holds it. ``dumps`` tells which blocks
the sender must keep; ``loads`` tells the receiver which of them it may release. A worker gives a
block away only if nothing in it refers to the block any more once it let go of the value; what is
still in use there, it copies.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ringwalk._core.decoder import NOT_PLAIN, Decoder
from ringwalk._core.encoder import Encoder
from ringwalk._core.heap import Heap
from ringwalk._core.private import restore
from ringwalk.memory.buffers import REFERENCE, Inputs, Outgoing, take_in, take_in_again
from ringwalk.memory.by_value import BufferCallback, dumps_by_value
from ringwalk.memory.inherited import release_for_the_dead
from ringwalk.memory.main_names import MAIN, MainNames
from ringwalk.memory.shared_blocks import SharedBlocks

# Below this a buffer travels inside the value: a block of its own costs about as much as
# copying so many bytes twice more.
OUT_OF_BAND_FROM = 8192

_COUNT = struct.Struct("<Q")
_REDUCERS: dict[type, Callable[[Any], Any]] = {}
"""How objects of exactly these classes travel; see ``travels_as``."""

_PICKLE_ERRORS = (pickle.PicklingError, AttributeError, TypeError, NotImplementedError, ValueError)

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
    value: object, *, protocol: int, buffer_callback: BufferCallback | None = None
) -> bytes:
    """``pickle.dumps`` with the reductions of ``travels_as``."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=protocol, buffer_callback=buffer_callback)
    pickler.dispatch_table = {**copyreg.dispatch_table, **_REDUCERS}
    pickler.dump(value)
    return file.getvalue()


def _large_to(take: Callable[[memoryview], object]) -> Callable[[pickle.PickleBuffer], bool]:
    """A ``buffer_callback`` that has large buffers taken out of the pickle."""

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle makes the copy
            return True
        if raw.nbytes < OUT_OF_BAND_FROM:
            return True
        take(raw)
        return False

    return out_of_band


def dumps_with_views(value: object) -> tuple[bytes, list[memoryview]]:
    """A pickle for this process, and views of the large buffers that it leaves out.

    Raises whatever pickle raised when it and cloudpickle refuse.
    """
    views: list[memoryview] = []
    by_name = _dumps_reduced if _REDUCERS else pickle.dumps
    try:
        return by_name(value, protocol=5, buffer_callback=_large_to(views.append)), views
    except _PICKLE_ERRORS as plain:
        views.clear()
        try:
            return dumps_by_value(value, buffer_callback=_large_to(views.append)), views
        except _PICKLE_ERRORS:
            raise plain from None


class _Classes:
    """How the encoder's classes travel."""

    main: MainNames | None = None

    def pickled(self, cls: Any, names: tuple[str, ...]) -> bytes | None:
        """A class and the attributes of an instance; None if it cannot be pickled."""
        described = (cls, names)
        try:
            if self.main is None or cls.__module__ != "__main__" or self.main.have(cls):
                return pickle.dumps(described, 5)
        except _PICKLE_ERRORS:  # not found under its name
            pass
        try:
            return dumps_by_value(described, self.main)
        except _PICKLE_ERRORS:
            return None


class _Outdated(Exception):
    """A pickle names what the other processes do not have as it is here."""


class Codec:
    """Encodes into one heap and decodes from any heap of a pool.

    Args:
        heaps: this process's handles, one a process of the pool; number 0 is the parent's.
        own: number of the heap that this process allocates in.

    Attributes:
        moved: bytes of buffers that were copied to shared memory for payloads that this process
            encoded or decoded, in all.
        names: whether a buffer that lies in a heap already is named, and not copied.
        shared: where large buffers that are written for open calls are looked for first; None,
            and each is written for itself.
        taken: buffers that it decoded, in all.
        encoder: writes plain values, and only those.
    """

    def __init__(self, heaps: Sequence[Heap], own: int) -> None:
        self.moved = self.taken = 0
        self.names = True
        self.shared: SharedBlocks | None = None
        self.heaps = heaps
        self.own = heaps[own]
        self._classes = _Classes()
        self.encoder = Encoder(OUT_OF_BAND_FROM, _REDUCERS, self._classes.pickled)
        self._decoder = Decoder()

    @property
    def main(self) -> MainNames | None:
        """What the other processes have of ``__main__``; None: what this one has."""
        return self._classes.main

    @main.setter
    def main(self, names: MainNames) -> None:
        self._classes.main = names

    def begin(self) -> None:
        """A new map: look again at what classes look like, and at who still has what."""
        release_for_the_dead()
        self.encoder.begin()
        self._decoder.begin()

    def acquaint(self, value: object) -> None:
        """Look at the classes of a value, so that processes forked from this one need not.

        Writes nothing to shared memory. Raises what looking at a class raises.
        """
        self.encoder.dumps(value, [])

    def dumps(self, value: object, *, private: bool = False) -> Encoded:
        """Write a value; what pickle refuses as well (lambdas, ``__main__``) goes by cloudpickle.

        Args:
            private: one task alone will decode the payload, and a segment that wants a copy of
                its arrays may have those that are written here, instead.

        Raises whatever pickle raised when both refuse, and HeapFullError; neither leaves a block.
        """
        payload, outgoing = self._dumps([value], private)
        return payload, outgoing.made if outgoing else ()

    def dumps_in_band(self, value: object) -> bytes:
        """Pickle a value into one piece. Raises as ``dumps`` does."""
        try:
            return self._dumps_by_name(value, protocol=5)
        except _Outdated:
            return self._dumps_by_value(value, protocol=5)
        except _PICKLE_ERRORS as plain:
            try:
                return self._dumps_by_value(value, protocol=5)
            except _PICKLE_ERRORS:
                raise plain from None

    def dumps_by_value(self, value: object) -> Encoded:
        """Write a value with the functions and classes of ``__main__`` themselves, not their names.

        Raises as ``dumps`` does.
        """
        payload, outgoing = self._pickle([value], False, self._dumps_by_value)
        return payload, outgoing.made

    def release(self, block: int) -> None:
        """Drop the hold on a block that was made for a payload."""
        if self.shared is None:
            self.own.release(block)
        else:
            self.shared.release(block)

    def dumps_repeated(self, value: object, inputs: Inputs) -> Encoded:
        """Write a value that each task reads anew; see ``Repeated``. Raises as ``dumps`` does.

        A buffer that others may write is copied, or what they write would be seen in the copies of
        those tasks that did not write there.
        """
        names, self.names = self.names, self.names and inputs == "readonly"
        try:
            return self.dumps(value)
        finally:
            self.names = names

    def give(self, box: list[Any]) -> tuple[int, int]:
        """Take a value out of its box and write it into a block of its own: block and length.

        If nobody else refers to the value, its arrays that lie in shared memory go along without
        a copy. Raises as ``dumps`` does.
        """
        if (placed := self.encoder.put(box[0], self.own)) is not None:
            box.clear()
            return placed
        payload, outgoing = self._dumps(box, False)
        try:
            return self.own.put(payload), len(payload)
        except BaseException:
            if outgoing:
                outgoing.withdraw()
            raise

    def _dumps(self, box: list[Any], private: bool) -> tuple[bytes, Outgoing | None]:
        arrays: list[np.ndarray[Any, Any]] = []
        plain = self.encoder.dumps(box[0], arrays)
        if plain is None:
            arrays.clear()
            try:
                return self._pickle(box, private, self._dumps_by_name)
            except _Outdated:
                return self._pickle(box, private, self._dumps_by_value)
            except _PICKLE_ERRORS as refused:
                try:
                    return self._pickle(box, private, self._dumps_by_value)
                except _PICKLE_ERRORS:
                    raise refused from None
        if not arrays:
            box.clear()
            return plain, None
        with self._outgoing(private) as outgoing:
            while arrays:
                # As bytes: numpy exports no buffer of dates.
                outgoing.add(arrays.pop(0).reshape(-1, order="A").view(np.uint8).data)
            return self._assemble(box, plain[_COUNT.size :], outgoing), outgoing

    def _dumps_by_name(self, value: object, **options: Any) -> bytes:
        dumps = _dumps_reduced if _REDUCERS else pickle.dumps
        pickled = dumps(value, **options)
        if self.main is not None and MAIN in pickled and not self.main.have_all(pickled):
            raise _Outdated
        return pickled

    def _dumps_by_value(self, value: object, **options: Any) -> bytes:
        return dumps_by_value(value, self.main, **options)

    def _pickle(self, box: list[Any], private: bool, dumps: Any) -> tuple[bytes, Outgoing]:
        with self._outgoing(private) as outgoing:
            pickled = dumps(box[0], protocol=5, buffer_callback=_large_to(outgoing.add))
            return self._assemble(box, pickled, outgoing), outgoing

    def _outgoing(self, private: bool) -> Outgoing:
        heaps = self.heaps if self.names else ()
        gives = self.own.index > 0
        return Outgoing(heaps, self.own, gives=gives, private=private, shared=self.shared)

    def _assemble(self, box: list[Any], value: bytes, outgoing: Outgoing) -> bytes:
        box.clear()
        references = outgoing.settle()
        self.moved += outgoing.moved
        return b"".join((_COUNT.pack(len(references)), *references, value))

    def receive(self, sender: int, block: int, length: int) -> Any:
        """Decode what a process gave away in a block of its heap; its hold on it ends.

        Raises whatever unpickling raises.
        """
        heap = self.heaps[sender]
        if (value := self._decoder.receive(heap, block, length, sender)) is not NOT_PLAIN:
            return value
        handed = [(sender, block)]
        try:
            return self.loads(heap.peek_block(block, length), None, handed)
        finally:
            for index, given in handed:
                self.heaps[index].release_for(given, sender)

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
        references = _references(payload)
        buffers: list[Any] = []
        if references:
            buffers, copied = take_in(references, self.heaps, inputs, handed)
            self.moved += copied
            self.taken += len(buffers)
        return self._decode(payload, _COUNT.size + len(references), buffers)

    def repeated(self, payload: memoryview, inputs: Inputs) -> Callable[[], Any]:
        """What reads a payload again and again, each time as if nobody had written in the value.

        Raises what mapping memory raises; the function raises what unpickling raises.
        """
        references = _references(payload)
        start = _COUNT.size + len(references)
        buffers = take_in_again(references, self.heaps, inputs)

        def read() -> Any:
            restore(buffers)
            return self._decode(payload, start, list(buffers))

        return read

    def _decode(self, payload: memoryview, start: int, buffers: list[Any]) -> Any:
        value = self._decoder.loads(payload, start, buffers)
        if value is NOT_PLAIN:
            value = pickle.loads(payload[start:], buffers=buffers)
        return value


def _references(payload: memoryview) -> memoryview:
    """The part of a payload that says where its buffers lie."""
    (count,) = _COUNT.unpack_from(payload)
    end = _COUNT.size + count * REFERENCE.size
    if end > len(payload):
        raise ValueError(f"a payload of {len(payload)} bytes claims {count} buffers")
    return payload[_COUNT.size : end]
