"""Values of every kind that a user may send, and what can be seen of one: importable by workers."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import struct
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Plain:
    """State in ``__dict__``, pickled as ``object`` does."""

    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)


@dataclasses.dataclass
class Record:
    first: Any
    second: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    first: Any
    second: Any = None


@dataclasses.dataclass(slots=True)
class Slotted:
    first: Any
    second: Any = None


class Pair(NamedTuple):
    first: Any
    second: Any


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


class Flags(enum.IntFlag):
    A = 1
    B = 2


class Number(int):
    """A number with attributes."""


class Text(str):
    """A text with attributes."""


class Items(list[Any]):
    """A list with attributes."""


class Table(dict[Any, Any]):
    """A dictionary with attributes."""


class Couple(tuple[Any, ...]):
    """A tuple with attributes."""


class Group(set[Any]):
    """A set with attributes."""


class Reduced:
    """Comes back by a function."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        return Reduced, (self.state,)


class Stateful:
    """Leaves out of its pickle what it can make again."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.cache = "only here"

    def __getstate__(self) -> Any:
        return {"state": self.state}

    def __setstate__(self, state: Any) -> None:
        self.state = state["state"]
        self.cache = "made again"


class Guarded:
    """Has a property where the state lies in ``__dict__`` under another name."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @property
    def value(self) -> Any:
        return self._value


class Labelled(np.ndarray[Any, Any]):
    """An array with an attribute that its pickle leaves out."""

    label: Any = None


def labelled(values: np.ndarray[Any, Any]) -> Labelled:
    view = values.view(Labelled)
    view.label = "lost"
    return view


class Lazy:
    """A sequence that makes each element when it is asked for."""

    def __init__(self, elements: list[Any]) -> None:
        self._elements = elements

    def __len__(self) -> int:
        return len(self._elements)

    def __getitem__(self, k: int) -> Any:
        return [self._elements[k]]

    def __iter__(self) -> Iterator[Any]:
        return ([element] for element in self._elements)


# --- what can be seen of a value --------------------------------------------------------------


def fingerprint(value: object, *, exactly: bool = True) -> str:
    """All that can be seen of a value: types, bits, order, which parts are one object.

    Args:
        exactly: also the strides of arrays, and whether they can be written.
    """
    return repr(_Looker(exactly=exactly).look(value))


class _Looker:
    def __init__(self, *, exactly: bool) -> None:
        self._exactly = exactly
        self._met: dict[int, tuple[int, object]] = {}

    def look(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, str, bytes, range, type(Ellipsis)):
            return kind.__name__, value
        if kind is float:
            return "float", struct.pack("<d", value)
        if kind is complex:
            return "complex", struct.pack("<dd", value.real, value.imag)
        if isinstance(value, type) or kind in (types.BuiltinFunctionType, np.ufunc):
            return "named", value.__module__, value.__name__
        if kind is types.FunctionType:
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return "function", value.__qualname__, self.look(cells)
        if isinstance(value, (enum.Enum, np.dtype)):
            return kind.__name__, _of_dtype(value) if isinstance(value, np.dtype) else repr(value)
        if isinstance(value, np.generic) and not isinstance(value, np.void):
            return kind.__name__, _of_dtype(value.dtype), _bits(value)
        if kind is tuple and not value:
            return ()
        number, _ = self._met.get(id(value), (-1, None))
        if number >= 0:
            return "met", number
        self._met[id(value)] = len(self._met), value
        return (f"{kind.__module__}.{kind.__qualname__}", *self._inside(value), *self._state(value))

    def _inside(self, value: Any) -> Iterator[Any]:
        if isinstance(value, np.ndarray):
            yield from self._array(value)
        elif isinstance(value, np.void):
            yield _of_dtype(value.dtype)
            yield self.look(list(value.tolist())) if value.dtype.hasobject else _bits(value)
        elif isinstance(value, dict):
            if isinstance(value, collections.defaultdict):
                yield self.look(value.default_factory)
            yield [(self.look(key), self.look(element)) for key, element in value.items()]
        elif isinstance(value, (set, frozenset)):
            yield sorted(repr(self.look(element)) for element in value)
        elif isinstance(value, (list, tuple, collections.deque)):
            yield [self.look(element) for element in value]
        elif isinstance(value, (bytearray, array.array)):
            yield bytes(value)
        elif isinstance(value, BaseException):
            yield self.look(value.args)
        elif isinstance(value, int):
            yield int(value)
        elif isinstance(value, str):
            yield str(value)
        elif not hasattr(value, "__dict__") and not hasattr(value, "__slots__"):
            yield repr(value)

    def _state(self, value: Any) -> Iterator[Any]:
        if isinstance(value, np.ma.MaskedArray):
            return
        state = getattr(value, "__dict__", None)
        if state:
            yield [(name, self.look(element)) for name, element in state.items()]
        for name in getattr(type(value), "__slots__", ()):
            yield name, self.look(getattr(value, name, None))

    def _array(self, value: np.ndarray[Any, Any]) -> Iterator[Any]:
        yield _of_dtype(value.dtype), value.shape
        if self._exactly:
            yield value.flags.writeable, value.strides if value.size else None
        if isinstance(value, np.ma.MaskedArray):
            yield self.look(value.fill_value), np.ma.getmaskarray(value).tobytes()
            value = value.data
        if not value.dtype.hasobject:
            yield _bits(value)
        elif value.dtype.names:
            yield [[self.look(part) for part in item] for item in value.ravel().tolist()]
        else:
            yield [self.look(item) for item in value.ravel().tolist()]


def _bits(array: Any) -> Any:
    """All but what lies between fields and in the gaps of a long double, which no copy keeps."""
    names = array.dtype.names
    if names:
        return [_bits(array[name]) for name in names]
    data = array.tobytes()
    if array.dtype.char in "gG" and np.finfo("g").nmant == 63:  # 10 bytes of 16 on x86-64
        return np.frombuffer(data, np.uint8).reshape(-1, 16)[:, :10].tobytes()
    return data


def _of_dtype(dtype: Any) -> Any:
    fields = dtype.fields and {
        name: (_of_dtype(field[0]), *field[1:]) for name, field in dtype.fields.items()
    }
    base = None if dtype.subdtype is None else (_of_dtype(dtype.subdtype[0]), dtype.subdtype[1])
    metadata = None if dtype.metadata is None else dict(dtype.metadata)
    size = dtype.itemsize, dtype.isalignedstruct
    return dtype.str, dtype.type.__name__, *size, fields, base, metadata


# --- segments ---------------------------------------------------------------------------------


def scribble(value: Any, met: set[int] | None = None) -> None:
    """Write over all of a value that can be written, as a careless segment does."""
    met = set() if met is None else met
    if id(value) in met:
        return
    met.add(id(value))
    inside: list[Any] = []
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            inside += value.ravel().tolist()
        if value.flags.writeable:
            _overwrite(value.view(np.ndarray))
    elif isinstance(value, np.void):
        if value.dtype.names and value.flags.writeable:
            value[value.dtype.names[0]] = np.zeros((), value.dtype[0])
    elif isinstance(value, dict):
        inside += value.values()
        value["scribbled"] = met
    elif isinstance(value, (list, collections.deque)):
        inside += value
        value.append("scribbled")
    elif isinstance(value, tuple):
        inside += value
    elif isinstance(value, set):
        value.add("scribbled")
    elif isinstance(value, (bytearray, array.array)):
        for k in range(len(value)):
            value[k] = 1
    if isinstance(value, (type, types.FunctionType, np.ufunc, enum.Enum, np.dtype)):
        return
    state = getattr(value, "__dict__", None)
    if isinstance(state, dict):
        inside += state.values()
        state["scribbled"] = True
    for name in getattr(type(value), "__slots__", ()):
        inside.append(getattr(value, name, None))
    for part in inside:
        scribble(part, met)


def _overwrite(array: np.ndarray[Any, Any]) -> None:
    if array.dtype == object:
        array[...] = None
    elif array.dtype.hasobject:
        for name in array.dtype.names or ():
            array[name] = np.zeros((), array.dtype[name])
    elif array.dtype.itemsize:
        array[...] = np.frombuffer(b"\x01" * array.dtype.itemsize, array.dtype)[0]


def look(exactly: bool, *args: Any, **kwargs: Any) -> tuple[list[str], Any]:
    """What the segment sees of each argument, and the arguments back."""
    values = [*args, *(kwargs[name] for name in sorted(kwargs))]
    return [fingerprint(value, exactly=exactly) for value in values], values


def look_and_scribble(exactly: bool, *args: Any, **kwargs: Any) -> tuple[list[str], Any]:
    """What the segment sees of each argument, which it writes over then."""
    values = [*args, *(kwargs[name] for name in sorted(kwargs))]
    seen = [fingerprint(value, exactly=exactly) for value in values]
    for value in values:
        scribble(value)
    return seen, ()


def run(what: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """One segment for all maps of a mapper."""
    return what(*args, **kwargs)
