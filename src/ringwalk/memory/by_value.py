"""Functions and classes by value: cloudpickle, but for three things.

* Code keeps the name of its file. From 3.1.3 on cloudpickle calls every file ``<dynamic-code>``, so
  a traceback would not say where a function that was sent stands.
* A class that comes back to the process that sent it is left as it is there. cloudpickle would put
  copies in the place of its methods, which do not see the globals of that process any more.
* What the receiver has under its name goes by name: an object and a function that asks for its type
  must mean the same class.
"""

from __future__ import annotations

import io
import os
import pickle
import weakref
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from ringwalk._core.classes import is_current
from ringwalk.memory.main_names import MainNames
from ringwalk.notebook import cell_or_file

BufferCallback = Callable[[pickle.PickleBuffer], Any]

_PROGRAM = os.urandom(8)
_origins: weakref.WeakKeyDictionary[type, tuple[bytes, int]] = weakref.WeakKeyDictionary()
"""Which process the classes are of that were sent or received here."""


def dumps_by_value(
    value: object,
    names: MainNames | None = None,
    *,
    protocol: int = 5,
    buffer_callback: BufferCallback | None = None,
) -> bytes:
    """``cloudpickle.dumps``, but for what is said above.

    Args:
        names: what the receiver has of ``__main__``; None: nothing.
    """
    with io.BytesIO() as file:
        _Pickler(file, protocol, buffer_callback, names).dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(
        self,
        file: io.BytesIO,
        protocol: int,
        buffer_callback: BufferCallback | None,
        names: MainNames | None,
    ) -> None:
        super().__init__(file, protocol=protocol, buffer_callback=buffer_callback)
        self._names = names

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is CodeType:
            make, arguments = self.dispatch_table[CodeType](obj)
            return _code_of_file, (cell_or_file(obj.co_filename), make, arguments)
        if kind is FunctionType:
            return NotImplemented if self._goes_by_name(obj) else super().reducer_override(obj)
        if not issubclass(kind, type):
            return NotImplemented
        if self._goes_by_name(obj):
            return NotImplemented
        reduced = super().reducer_override(obj)
        if type(reduced) is tuple and len(reduced) == 6:  # by value
            make, arguments, state, _, _, set_state = reduced
            origin = _origins.setdefault(obj, _here())
            return make, arguments, (origin, set_state, state), None, None, _set_class_state
        return reduced

    def _goes_by_name(self, definition: Any) -> bool:
        return (
            self._names is not None
            and definition.__module__ == "__main__"
            and is_current(definition)
            and self._names.have(definition)
        )


def _code_of_file(filename: str, make: Callable[..., CodeType], arguments: tuple[Any, ...]) -> Any:
    code = make(*arguments)
    return code if code.co_filename == filename else code.replace(co_filename=filename)


def _here() -> tuple[bytes, int]:
    return _PROGRAM, os.getpid()


def _set_class_state(cls: type, sent: tuple[Any, Callable[[type, Any], object], Any]) -> None:
    origin, set_state, state = sent
    if origin == _here() and cls in _origins:
        return
    _origins[cls] = origin
    set_state(cls, state)
