"""How many libraries were loaded into this process: whether looking for one again is of use."""

from __future__ import annotations

import ctypes
from typing import Any

from ringwalk._core.process import Undisturbed


class _LoadedObject(ctypes.Structure):
    """``struct dl_phdr_info`` of <link.h>."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("headers", ctypes.c_void_p),
        ("header_count", ctypes.c_uint16),
        ("adds", ctypes.c_ulonglong),  # objects loaded since the process began; only grows
        ("subs", ctypes.c_ulonglong),
    )


def _take_adds(info: Any, size: int, adds: Any) -> int:
    adds[0] = info[0].adds
    return 1  # the same number stands in every object: stop at the first


_ADDS = ctypes.POINTER(ctypes.c_ulonglong)
_visitor = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_LoadedObject), ctypes.c_size_t, _ADDS)(
    _take_adds
)
_libc = ctypes.CDLL(None)


def libraries_loaded() -> int:
    """Objects loaded since the process began, those unloaded again included. Takes 3 us."""
    adds = ctypes.c_ulonglong()
    with Undisturbed():  # what a callback from C raises is lost, Ctrl-C included
        _libc.dl_iterate_phdr(_visitor, ctypes.byref(adds))
    return adds.value
