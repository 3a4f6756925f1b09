"""Calls: what a submitted call is on its way to a worker, and how the worker runs it.

Functions of modules go by name, at a fraction of a pickle's cost. So do functions of ``__main__``,
while the workers have them as they are now; else they go by value, see ``memory.main_names``. That
holds for the function itself and for what the arguments refer to.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from ringwalk.futures.large_callables import LargeCallables, is_large, load
from ringwalk.memory.by_value import dumps_by_value
from ringwalk.memory.codec import Codec, Encoded
from ringwalk.memory.fingerprint import Fingerprint
from ringwalk.memory.main_names import MAIN

Call = tuple[Any, Sequence[Any], dict[str, Any]]

# A function that refers to something else at each call is another one each time.
_MOST_FUNCTIONS = 256

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
            func = pickle.loads(name)
            _remember(_functions, name, func)
    elif type(func) is np.ndarray:
        func = load(func)
    try:
        return func(*args, **kwargs)
    except SystemExit as stop:
        raise TaskExit(stop.code) from stop


class Calls:
    """Encodes calls, each with its function as it is then."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        # Looking a function up by its name costs more than the rest of a call's pickling.
        self._names: dict[Any, bytes] = {}
        self._names_of_main: dict[Any, bytes] = {}
        self._values: dict[Any, tuple[Fingerprint, bytes]] = {}
        self._large = LargeCallables()

    def begin(self) -> None:
        """No call is open: a class may have been defined anew since, see ``_core/encoder``."""
        self._codec.begin()
        self._large.forget()

    def encode(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Encoded:
        """Write a call. Raises what pickling raises."""
        func = self._pickled(func)
        if self._large and type(func) is not bytes:
            func = self._apart(func)
        call = ((func, args, kwargs),)
        encoded = self._codec.dumps(call)
        payload, blocks = encoded
        if is_large(payload) and type(func) not in (bytes, np.ndarray):
            apart = self._apart(func)
            if apart is not func:
                self._release(blocks)
                call = ((apart, args, kwargs),)
                encoded = payload, blocks = self._codec.dumps(call)
        if MAIN in payload and not self._is_known(payload, func):
            self._release(blocks)
            return self._codec.dumps_by_value(call)
        return encoded

    def _release(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._codec.release(block)

    def _apart(self, func: Any) -> Any:
        """The pickle of a large callable; a small one as it is. Raises what pickling raises."""
        pickled = self._codec.dumps_in_band(func)
        return self._large.same(pickled) if is_large(pickled) else func

    def _pickled(self, func: Any) -> Any:
        """The pickle of a function; any other callable as it is."""
        if type(func) not in (FunctionType, BuiltinFunctionType):
            return func
        name = self._names.get(func)
        if name is not None:
            return name
        main = self._codec.main
        if main is not None and func.__module__ == "__main__" and not main.have(func):
            return self._by_value(func)
        name = self._names_of_main.get(func)
        if name is None:
            try:
                name = pickle.dumps(func, 5)
            except (pickle.PicklingError, AttributeError, TypeError):  # a lambda, a method in C
                return func
            of_main = func.__module__ == "__main__"
            _remember(self._names_of_main if of_main else self._names, func, name)
        return name

    def _by_value(self, func: Any) -> Any:
        if func.__qualname__ != func.__name__:  # local functions start anew at each call
            return func
        known = self._values.get(func)
        if known is not None and known[0].complete and known[0].holds(func):
            return known[1]
        meaning = Fingerprint(func)  # first: a change from now on is seen at the next call
        pickled = dumps_by_value(func, self._codec.main)
        _remember(self._values, func, (meaning, pickled))
        return pickled

    def _is_known(self, payload: bytes, func: Any) -> bool:
        """Whether the workers have what the arguments name; rather once too often not."""
        main = self._codec.main
        if main is None:
            return True
        if type(func) is bytes:
            payload = payload.replace(func, b"", 1)
        return MAIN not in payload or main.have_all(payload)


def _remember(known: dict[Any, Any], key: Any, value: Any) -> None:
    """Add to what is known, of which the oldest is forgotten when it becomes too much."""
    if len(known) >= _MOST_FUNCTIONS:
        del known[next(iter(known))]
    known[key] = value
