"""Values that stay: a topology, a force field. Sent to a node once, opened in each worker once.

    topology = Broadcast(load_topology())
    mapper.map(walkers, itertools.repeat(topology))     # the segment gets the topology itself

A node keeps the value's bytes in memory without a name, which its workers map. Arrays of the value
are read-only views of that memory, one copy for all workers of the node. It is let go when the
mapper is cleaned up.
"""

from __future__ import annotations

import mmap
import os
import pickle
import uuid
from functools import cache
from typing import Any

from ringwalk.cluster.packing import Pack

_ALIGN = 64  # bytes of a cache line


class Broadcast:
    """A value that every segment of many maps gets.

    Give it by ``itertools.repeat``. Anywhere else it travels as the value alone would, and so it
    does with the mappers of one node.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = uuid.uuid4().hex
        self._pack: Pack | None = None

    def pack(self) -> Pack:
        """The value as it was when this was first called, to send it."""
        if self._pack is None:
            self._pack = Pack.of(self.value)
        return self._pack

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self.value,)


def _itself(value: Any) -> Any:
    return value


class Kept:
    """A broadcast value on its node; unpickles, in a worker of the node, as the value."""

    def __init__(self, key: str, pack: Pack) -> None:
        parts = [memoryview(part).cast("B") for part in (pack.data, *pack.buffers)]
        self._key = key
        self._lengths = tuple(part.nbytes for part in parts)
        spans = _spans(self._lengths)
        self._fd = os.memfd_create("ringwalk-broadcast", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(self._fd, 0, spans[-1].stop)
            with mmap.mmap(self._fd, spans[-1].stop) as memory:
                for part, span in zip(parts, spans, strict=True):
                    memory[span] = part
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Let go of the memory; workers that have it mapped keep it."""
        os.close(self._fd)

    def __reduce__(self) -> tuple[Any, ...]:
        return _kept_value, (self._key, f"/proc/{os.getpid()}/fd/{self._fd}", self._lengths)


@cache  # a worker meets few of them and ends with the mapper
def _kept_value(key: str, path: str, lengths: tuple[int, ...]) -> Any:
    spans = _spans(lengths)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        memory = memoryview(mmap.mmap(fd, spans[-1].stop, prot=mmap.PROT_READ))
    finally:
        os.close(fd)
    data, *buffers = [memory[span] for span in spans]
    return pickle.loads(data, buffers=buffers)


def _spans(lengths: tuple[int, ...]) -> list[slice]:
    """Where each part lies: one after another, from a cache line on."""
    spans, start = [], 0
    for length in lengths:
        spans.append(slice(start, start + length))
        start = -(-(start + length) // _ALIGN) * _ALIGN
    return spans
