"""Callables that carry much: a ``partial`` of a large text, a method of a large object.

Such a callable mostly is the function of many calls. Its pickle travels beside the call, as an
array, so that open calls share it (see ``memory.shared_blocks``): one of equal content is written
once. Each call unpickles it for itself.
"""

from __future__ import annotations

import pickle
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

_LARGE = 65536  # bytes
_REMEMBERED = 4

Pickled = npt.NDArray[np.uint8]


def is_large(payload: bytes) -> bool:
    """Whether a callable with this pickle, or in this payload, is better sent apart."""
    return len(payload) >= _LARGE


class LargeCallables:
    """The last large callables of the calls that are open."""

    def __init__(self) -> None:
        self._pickles: deque[bytes] = deque(maxlen=_REMEMBERED)

    def __bool__(self) -> bool:
        return bool(self._pickles)

    def forget(self) -> None:
        """No call is open."""
        self._pickles.clear()

    def same(self, pickled: bytes) -> Pickled:
        """The pickle as an array: for an equal one, on the same memory."""
        for known in self._pickles:
            if known == pickled:
                return np.frombuffer(known, np.uint8)
        self._pickles.append(pickled)
        return np.frombuffer(pickled, np.uint8)


def load(pickled: Pickled) -> Any:
    """The callable. Raises what unpickling raises."""
    return pickle.loads(pickled.data)
