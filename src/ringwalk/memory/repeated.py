"""Values that many segments get, each as if no other had written in it."""

from __future__ import annotations

import pickle
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

from ringwalk._core.classes import is_current
from ringwalk.memory.buffers import Inputs
from ringwalk.memory.codec import dumps_with_views

_IMMUTABLE = {type(None), bool, int, float, complex, str, bytes, range, type(...)}


def is_immutable(value: Any) -> bool:
    """Whether nobody can change a value, so that all may have the same one."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return True
    if kind is tuple or kind is frozenset:
        return all(map(is_immutable, value))
    if kind is FunctionType or isinstance(value, type):
        return is_current(value)  # another one may refer to what changes
    if kind is BuiltinFunctionType:
        return isinstance(value.__self__, ModuleType)
    return isinstance(value, np.generic) and not isinstance(value, np.void)


class Snapshot:
    """What segments in the caller's own process get of a value: copies, as in another process.

    Raises whatever pickling raises.
    """

    def __init__(self, value: Any, inputs: Inputs) -> None:
        self._writable = inputs == "copy"
        self._pickled, self._views = dumps_with_views(value)

    def read(self) -> Any:
        """A copy. Raises whatever unpickling raises."""
        return pickle.loads(self._pickled, buffers=map(self._buffer, self._views))

    def _buffer(self, view: memoryview) -> bytearray | memoryview:
        return bytearray(view) if self._writable and not view.readonly else view.toreadonly()
