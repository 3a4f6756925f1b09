"""Objects on their way between nodes: one pickle, and its large buffers beside it.

An engine that moves buffers out of band (mpi4py with ``use_pkl5``, Dask) sends them without another
copy; any other gets them within its own pickle. Nothing of the user is unpickled on the way: only
who opens a pack runs the user's code, so a fault in it is a walker's and never the engine's.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, SupportsIndex

from ringwalk.memory.by_value import dumps_by_value
from ringwalk.memory.codec import OUT_OF_BAND_FROM

# What a class of the user's script is pickled as by name; on another node that is another script.
_MAIN = b"__main__"


class Pack:
    """A pickled value. Its buffers come back writable where they were."""

    __slots__ = ("buffers", "data")

    def __init__(self, data: bytes, *buffers: Any) -> None:
        self.data = data
        self.buffers = buffers

    @classmethod
    def of(cls, value: object, *, code: bool = False) -> Pack:
        """Pickle a value; by cloudpickle what plain pickle refuses, or what is of ``__main__``.

        Args:
            code: the value is mostly functions and classes: use cloudpickle at once.

        Raises whatever pickling raised.
        """
        if not code:
            try:
                pack = cls._by(pickle.dumps, value)
            except Exception:  # pickling runs user code, and cloudpickle may do better
                pass
            else:
                if _MAIN not in pack.data:
                    return pack
        return cls._by(dumps_by_value, value)

    @classmethod
    def _by(cls, dumps: Callable[..., bytes], value: object) -> Pack:
        buffers: list[pickle.PickleBuffer] = []

        def out_of_band(buffer: pickle.PickleBuffer) -> bool:
            try:
                small = buffer.raw().nbytes < OUT_OF_BAND_FROM
            except BufferError:  # not contiguous: pickle makes the copy
                return True
            if not small:
                buffers.append(buffer)
            return small

        return cls(dumps(value, protocol=5, buffer_callback=out_of_band), *buffers)

    def open(self) -> Any:
        """The value. Raises whatever unpickling raises."""
        return pickle.loads(self.data, buffers=self.buffers)

    @property
    def nbytes(self) -> int:
        return len(self.data) + sum(memoryview(buffer).nbytes for buffer in self.buffers)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return Pack, (self.data, *_carried(self.buffers, protocol))


class Sealed:
    """A pack that opens itself where it is unpickled: in the worker that runs the segment."""

    __slots__ = ("_pack",)

    def __init__(self, pack: Pack) -> None:
        self._pack = pack

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        return _opened, (self._pack.data, *_carried(self._pack.buffers, protocol))


def _opened(data: bytes, *buffers: Any) -> Any:
    return pickle.loads(data, buffers=buffers)


def _carried(buffers: tuple[Any, ...], protocol: SupportsIndex) -> list[Any]:
    if int(protocol) >= 5:
        return [pickle.PickleBuffer(buffer) for buffer in buffers]
    # Older protocols know no buffers; a bytearray stays writable, as the sender's buffer was.
    views = [memoryview(buffer) for buffer in buffers]
    return [bytes(view) if view.readonly else bytearray(view) for view in views]
