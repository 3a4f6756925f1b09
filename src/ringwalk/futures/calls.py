"""Calls: what a submitted call is on its way to a worker, and how the worker runs it.

Functions of modules go by name, at a fraction of a pickle's cost. What ``__main__`` got after the
workers came, or got anew, goes by value: they do not know it, or know what it was before. That
holds for the function itself and for what the arguments refer to.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from ringwalk.futures.large_callables import LargeCallables, is_large, load
from ringwalk.memory.by_value import dumps_by_value
from ringwalk.memory.codec import Codec, Encoded, dumps_in_band

Call = tuple[Any, Sequence[Any], dict[str, Any]]

_MAIN = b"__main__"

# In a worker: functions by their pickles.
_functions: dict[bytes, Any] = {}


class TaskExit(Exception):
    """Carries ``SystemExit`` out of a task: in a worker it would end the worker."""


def run_call(call: Call) -> Any:
    """The segment function of a stream: runs one submitted call."""
    func, args, kwargs = call
    if type(func) is bytes:
        name, func = func, _functions.get(func)
        if func is None:
            func = _functions[name] = pickle.loads(name)
    elif type(func) is np.ndarray:
        func = load(func)
    try:
        return func(*args, **kwargs)
    except SystemExit as stop:
        raise TaskExit(stop.code) from stop


class Calls:
    """Encodes calls for workers that know ``__main__`` as it is when this is made."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._known = _definitions()
        # Looking a function up by its name costs more than the rest of a call's pickling.
        self._names: dict[Any, bytes] = {}
        self._large = LargeCallables()

    def begin(self) -> None:
        """No call is open: a class may have been defined anew since, see ``_core/encoder``."""
        self._codec.begin()
        self._large.forget()

    def encode(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Encoded:
        """Write a call. Raises what pickling raises."""
        func = self._named(func)
        if self._large and type(func) is not bytes:
            func = self._apart(func)
        call = ((func, args, kwargs),)
        encoded = self._codec.dumps(call)
        payload, blocks = encoded
        if is_large(payload) and type(func) not in (bytes, np.ndarray):
            apart = self._apart(func)
            if apart is not func:
                self._release(blocks)
                return self._codec.dumps(((apart, args, kwargs),))
        if _MAIN in payload and self._is_younger(payload, func):
            self._release(blocks)
            return self._codec.dumps_by_value(call)
        return encoded

    def _release(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._codec.release(block)

    def _apart(self, func: Any) -> Any:
        """The pickle of a large callable; a small one as it is. Raises what pickling raises."""
        pickled = dumps_in_band(func)
        if not is_large(pickled):
            return func
        if _MAIN in pickled and self._is_younger(pickled, func):
            pickled = dumps_by_value(func)
        return self._large.same(pickled)

    def _named(self, func: Any) -> Any:
        """The pickle of a function; any other callable as it is."""
        if type(func) not in (FunctionType, BuiltinFunctionType):
            return func
        name = self._names.get(func)
        if name is None:
            try:
                if func.__module__ == "__main__" and self._known.get(func.__qualname__) is not func:
                    name = dumps_by_value(func)
                else:
                    name = pickle.dumps(func, 5)
            except (pickle.PicklingError, AttributeError, TypeError):  # a lambda, a method in C
                return func
            self._names[func] = name
        return name

    def _is_younger(self, payload: bytes, func: Any) -> bool:
        """Whether the arguments name what the workers do not know; rather once too often."""
        own = func.count(_MAIN) if type(func) is bytes else 0
        if payload.count(_MAIN) == own:
            return False
        return any(
            name.encode() in payload
            for name, value in _definitions().items()
            if self._known.get(name) is not value
        )


def _definitions() -> dict[str, Any]:
    """The functions and classes that ``__main__`` defines."""
    return {
        name: value
        for name, value in vars(sys.modules["__main__"]).copy().items()
        if isinstance(value, (FunctionType, type))
        and getattr(value, "__module__", None) == "__main__"
    }
