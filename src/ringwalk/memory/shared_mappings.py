"""Arrays on memory that forked processes share: writable memmaps, ``SharedMemory``, block fields.

A task process that wrote in one would write the caller's file, or what all others see. As an
argument it gets what pickle would bring: a copy. A file is not read for that, but mapped privately.
"""

from __future__ import annotations

import gc
import mmap
import os
from bisect import bisect_right
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Literal

import numpy as np

from ringwalk.memory.buffers import Inputs
from ringwalk.memory.repeated import Snapshot

_ARENA = b"/memfd:ringwalk (deleted)"
_LEAVES = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)


@dataclass(frozen=True, slots=True)
class _Mapping:
    start: int
    end: int
    offset: int
    device_and_inode: tuple[int, int]
    path: bytes

    @classmethod
    def of(cls, line: bytes) -> _Mapping:
        """A line of /proc/self/maps."""
        places, _, offset, device, inode, *path = line.split(maxsplit=5)
        start, _, end = places.partition(b"-")
        major, _, minor = device.partition(b":")
        on = os.makedev(int(major, 16), int(minor, 16)), int(inode)
        return cls(int(start, 16), int(end, 16), int(offset, 16), on, b"".join(path))


class SharedMappings:
    """The writable memory that this process shares with those forked from it, as it is now."""

    def __init__(self) -> None:
        try:
            with open("/proc/self/maps", "rb") as maps:
                lines = maps.read().splitlines()
        except FileNotFoundError:  # no /proc: then nobody can tell
            lines = []
        # What lies in a pool's arena is the task's own already, see part_views in _core/heap.pyx.
        shared = [line for line in lines if b" rw-s " in line and not line.endswith(_ARENA)]
        self._mappings = list(map(_Mapping.of, shared))
        self._starts = [mapping.start for mapping in self._mappings]

    def __bool__(self) -> bool:
        return bool(self._mappings)

    def private(self, value: Any, inputs: Inputs) -> Any:
        """The value, or a copy of it if an array in it lies in shared memory.

        What pickle refuses is left as it is: whoever passes a lock, a counter or a table shares it.
        """
        if isinstance(value, np.ndarray) and (mapping := self._mapping_of(value)) is not None:
            found = _mapped_privately(value, mapping)
            if found is not None:
                found.setflags(write=inputs == "copy")
                return found
        elif not self._is_in(value):
            return value
        try:
            return Snapshot(value, inputs).read()
        except Exception:  # pickling runs user code
            return value

    def _mapping_of(self, array: np.ndarray[Any, Any]) -> _Mapping | None:
        if not array.flags.writeable or not array.size:
            return None
        address = array.ctypes.data
        at = bisect_right(self._starts, address) - 1
        mapping = self._mappings[at] if at >= 0 else None
        return mapping if mapping is not None and address < mapping.end else None

    def _is_in(self, value: Any) -> bool:
        """Whether an array on shared memory is a part of a value."""
        met: dict[int, Any] = {id(value): value}
        left = [value]
        while left:
            part = left.pop()
            if isinstance(part, np.ndarray):
                if self._mapping_of(part) is not None:
                    return True
                parts = list(part.flat) if part.dtype == object else []
            else:
                parts = gc.get_referents(part)
            for each in parts:
                if not isinstance(each, _LEAVES) and id(each) not in met:
                    met[id(each)] = each
                    left.append(each)
        return False


def _mapped_privately(
    array: np.ndarray[Any, Any], mapping: _Mapping
) -> np.ndarray[Any, Any] | None:
    """A copy on write of an array on a file; None where it has to be copied at once."""
    if type(array) not in (np.ndarray, np.memmap) or not array.flags.forc:
        return None
    if array.nbytes < mmap.PAGESIZE or array.ctypes.data + array.nbytes > mapping.end:
        return None
    skipped = (array.ctypes.data - mapping.start + mapping.offset) % mmap.ALLOCATIONGRANULARITY
    offset = array.ctypes.data - mapping.start + mapping.offset - skipped
    try:
        fd = os.open(mapping.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has no name any more
        return None
    try:
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != mapping.device_and_inode:
            return None
        rights = mmap.PROT_READ | mmap.PROT_WRITE
        memory = mmap.mmap(fd, skipped + array.nbytes, mmap.MAP_PRIVATE, rights, offset=offset)
    except (OSError, ValueError):
        return None
    finally:
        os.close(fd)
    order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
    return np.ndarray.__new__(type(array), array.shape, array.dtype, memory, skipped, order=order)
