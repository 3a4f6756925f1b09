"""What a function means now: its code and all that it uses, in a form that can be compared."""

from __future__ import annotations

import functools
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Collection, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ringwalk._core.classes import is_current, keeps_state_in_dict

_MOST_PARTS = 4000
_MOST_BYTES = 1 << 16

_CONSTANTS = (type(None), bool, int, str, bytes, range)
_BY_NAME = (ModuleType, BuiltinFunctionType)
_CACHED = type(functools.cache(len))
_SEQUENCES = (list, deque, set, frozenset)
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)
_NOT_COMPARED = frozenset(
    ("__module__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__")
)


class Fingerprint:
    """Of a definition that goes by value, as it is when this is made.

    Attributes:
        complete: it leaves out nothing that can change.
    """

    def __init__(self, definition: Any) -> None:
        walk = _Walk(definition)
        self._definition = definition
        self._parts = walk.parts
        self._owned = walk.owned  # an id in the parts is this object's
        self._bindings = walk.bindings if walk.steady else None
        self.complete = walk.complete

    def holds(self, definition: Any) -> bool:
        """Whether a definition means the same, now."""
        if (
            definition is self._definition
            and self._bindings is not None
            and all(_bound(holder, name) is value for holder, name, value in self._bindings)
        ):
            return True
        return _Walk(definition).parts == self._parts


_MISSING = object()


def _bound(holder: Any, name: str) -> Any:
    """A global of that name, or an attribute of a function."""
    return holder.get(name, _MISSING) if type(holder) is dict else getattr(holder, name)


class _Walk:
    """Goes through all that a definition refers to.

    Attributes:
        parts: what was met, in the order of the walk.
        owned: the objects among it.
        bindings: holder, name and value of each global and function attribute that was met.
        steady: nothing that was met can change but by another binding.
        complete: the content of all that can change was met.
    """

    def __init__(self, definition: Any) -> None:
        self.parts: list[Any] = []
        self.owned: list[Any] = []
        self.bindings: list[tuple[Any, str, Any]] = []
        self.steady = self.complete = True
        self._numbers: dict[int, int] = {}  # id -> number of what was met
        self._bytes = 0
        self._any(definition)

    def _any(self, value: Any) -> None:
        kind = type(value)
        if kind in _CONSTANTS:
            self.parts += (kind, value)
        elif kind is float or kind is complex:
            self.parts += (kind, repr(value))  # 0.0 == -0.0
        elif (number := self._numbers.get(id(value))) is not None:
            self.parts += ("met", number)
        else:
            self._numbers[id(value)] = len(self._numbers)
            self.owned.append(value)
            self._object(kind, value)

    def _object(self, kind: type, value: Any) -> None:
        if value is _MISSING:
            self.parts.append(value)
        elif kind is FunctionType or issubclass(kind, type):
            if value.__module__ != "__main__" and is_current(value):  # goes by name
                self._identity(value)
            elif kind is FunctionType:
                self._function(value)
            else:
                self._class(value)
        elif kind in _BY_NAME:
            self._identity(value)
        elif kind is tuple:
            self._several(kind, value, value)
        else:
            self.steady = False
            self._data(kind, value)

    def _function(self, function: FunctionType) -> None:
        code = function.__code__
        self.parts += ("function", code)
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self.bindings.append((function, name, getattr(function, name)))
        self._any(function.__defaults__)
        self._any(function.__kwdefaults__)
        self._any(function.__dict__ or None)
        for cell in function.__closure__ or ():
            self.steady = False
            self._any(_content(cell))
        for name in _globals_used(code):
            value = function.__globals__.get(name, _MISSING)
            self.bindings.append((function.__globals__, name, value))
            self.parts.append(name)
            self._any(value)

    def _class(self, cls: type) -> None:
        self.steady = False  # an attribute may be set
        self.parts += ("class", cls.__qualname__)
        self._any(cls.__bases__)
        for name, value in tuple(vars(cls).items()):
            if name not in _NOT_COMPARED:
                self.parts.append(name)
                self._any(value)

    def _data(self, kind: type, value: Any) -> None:
        if kind in _SEQUENCES:
            self._several(kind, value, value)
        elif kind in _MAPPINGS:
            self._several(kind, value, value.items())
        elif kind is np.ndarray or issubclass(kind, np.generic):
            self._array(kind, value)
        elif kind is staticmethod or kind is classmethod:
            self._several(kind, value, (value.__func__,))
        elif kind is property:
            self._several(kind, value, (value.fget, value.fset, value.fdel))
        elif kind is MethodType:
            self._several(kind, value, (value.__func__, value.__self__))
        elif kind is functools.partial:
            self._several(kind, value, (value.func, value.args, value.keywords))
        elif kind is _CACHED:
            self._several(kind, value, (value.__wrapped__,))
        elif keeps_state_in_dict(kind):
            self._several("instance", value, (kind, vars(value)))
        else:
            self._opaque(value)

    def _several(self, kind: Any, value: Any, elements: Collection[Any]) -> None:
        if len(self.parts) + len(elements) > _MOST_PARTS:
            self._opaque(value)
            return
        self.parts += (kind, len(elements))
        for element in tuple(elements):
            self._any(element)

    def _array(self, kind: type, array: Any) -> None:
        self._bytes += array.nbytes
        if self._bytes > _MOST_BYTES or array.dtype.hasobject:
            self._opaque(array)
        else:
            self.parts += (kind, repr(array.dtype), array.shape, array.tobytes())

    def _opaque(self, value: Any) -> None:
        self.complete = False
        self._identity(value)

    def _identity(self, value: Any) -> None:
        self.parts += ("object", id(value))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _MISSING


@functools.lru_cache(maxsize=1024)
def _globals_used(code: CodeType) -> tuple[str, ...]:
    """Names that a function may look up among its globals; its attributes' names as well."""
    return tuple(dict.fromkeys(_names(code)))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
