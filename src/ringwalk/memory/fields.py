"""What a walker consists of: named fields, checked, and laid out as one aligned record.

A field is a dtype, or ``(shape, dtype)``. The record is padded to whole cache lines, so that two
workers that write neighbouring walkers never share one. Only dtypes that survive being written
down as text are accepted, because another process rebuilds the record from that text.
"""

from __future__ import annotations

import keyword
import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ringwalk.errors import ConfigError
from ringwalk.memory.row import Row

FieldSpec: TypeAlias = npt.DTypeLike | tuple[SupportsIndex | Sequence[SupportsIndex], npt.DTypeLike]
Fields: TypeAlias = dict[str, np.dtype[Any]]

CACHE_LINE = 64
_MOST_DIMENSIONS = 63  # numpy's 64, less the axis over the walkers
_RESERVED = frozenset(name for name in dir(Row) if not name.startswith("_"))


def check_count(n: SupportsIndex) -> int:
    """The number of walkers as an ``int``; ``ConfigError`` if it is none."""
    try:
        if isinstance(n, bool):
            raise TypeError("a bool is not a count")
        count = operator.index(n)
    except TypeError as error:
        raise ConfigError(
            f"a block needs its number of walkers as an int, got {n!r}; "
            'write for example WalkerBlock(48, weight="f8")'
        ) from error
    if count < 0:
        raise ConfigError(f"a block cannot have {count} walkers; give 0 or more")
    return count


def check_fields(fields: Mapping[str, FieldSpec]) -> Fields:
    """Turn field specifications into dtypes (with the shape inside), in the order given."""
    if not fields:
        raise ConfigError(
            "a block without fields holds nothing; name at least one, "
            'for example WalkerBlock(48, positions=((22, 3), "f8"))'
        )
    return {_check_name(name): _check_field(name, spec) for name, spec in fields.items()}


def record_dtype(fields: Fields) -> np.dtype[Any]:
    """One walker as a C-aligned record, padded to whole cache lines."""
    packed = np.dtype(list(fields.items()), align=True)
    offsets = dict(packed.fields or {})
    return np.dtype(
        {
            "names": list(fields),
            "formats": list(fields.values()),
            "offsets": [offsets[name][1] for name in fields],
            "itemsize": max(CACHE_LINE, -(-packed.itemsize // CACHE_LINE) * CACHE_LINE),
        },
        align=True,
    )


def describe_fields(fields: Fields) -> list[tuple[str, object, tuple[int, ...]]]:
    """The fields as plain literals: name, numpy's own dtype description, shape."""
    return [(name, npy.dtype_to_descr(field.base), field.shape) for name, field in fields.items()]


def fields_from(description: list[tuple[str, Any, tuple[int, ...]]]) -> Fields:
    """The inverse of ``describe_fields``."""
    return {
        name: np.dtype((npy.descr_to_dtype(descr), shape)) for name, descr, shape in description
    }


def _check_name(name: object) -> str:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be a field name; fields are read as row.<name>, "
            "so use a Python identifier that is not a keyword"
        )
    if name.startswith("_") or name in _RESERVED:
        raise ConfigError(
            f"the field name {name!r} is taken: {', '.join(sorted(_RESERVED))} and every name that "
            "starts with an underscore belong to the row itself; choose another"
        )
    return name


def _check_field(name: str, spec: FieldSpec) -> np.dtype[Any]:
    shape: tuple[int, ...] = ()
    if isinstance(spec, tuple):
        if len(spec) != 2:
            raise ConfigError(
                f"field {name!r} is given as {spec!r}; write a dtype or (shape, dtype)"
            )
        shape, spec = _check_shape(name, spec[0]), spec[1]
    if spec is None:
        raise ConfigError(f"field {name!r} has no dtype (None); give one, for example 'f8'")
    dtype = _as_dtype(name, spec)
    _check_storable(name, dtype.base)
    # A dtype may bring a shape of its own; the outer one goes in front of it.
    field = _as_dtype(name, (dtype.base, shape + dtype.shape))
    if len(field.shape) > _MOST_DIMENSIONS:
        raise ConfigError(
            f"field {name!r} has {len(field.shape)} dimensions; at most {_MOST_DIMENSIONS} fit"
        )
    return field


def _as_dtype(name: str, spec: npt.DTypeLike) -> np.dtype[Any]:
    try:
        return np.dtype(spec)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"field {name!r}: numpy makes no dtype of {spec!r} ({error}); write a dtype such as "
            '"f8", or (shape, dtype)'
        ) from error


def _check_shape(name: str, shape: object) -> tuple[int, ...]:
    lengths = shape if isinstance(shape, (tuple, list)) else (shape,)
    try:
        checked = tuple(operator.index(length) for length in lengths)
    except TypeError as error:
        raise ConfigError(
            f"field {name!r} has the shape {shape!r}; give a tuple of ints, "
            'for example ((22, 3), "f8")'
        ) from error
    if any(length < 0 for length in checked):
        raise ConfigError(f"field {name!r} has a negative length in its shape {checked}")
    return checked


def _check_storable(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise ConfigError(
            f"field {name!r} has the dtype {dtype!r}, which holds Python objects; other "
            "processes cannot follow such pointers: use numbers or fixed-length bytes, or pass "
            "the objects as an argument of their own"
        )
    if dtype.itemsize == 0:
        raise ConfigError(
            f"field {name!r} has the dtype {dtype!r}, which has no bytes; give it a length, "
            "for example 'S16' or 'U16'"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            survives = npy.descr_to_dtype(npy.dtype_to_descr(dtype)) == dtype
    except (TypeError, ValueError, Warning):
        survives = False
    if not survives:
        raise ConfigError(
            f"field {name!r} has the dtype {dtype!r}, which cannot be written down for another "
            "process (overlapping fields, metadata, or a type from outside numpy); use a plain "
            "dtype of the same size and view it"
        )
