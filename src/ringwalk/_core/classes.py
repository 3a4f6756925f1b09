"""What a class looks like to pickle: whether its instances may be written flat, see ``encoder``."""

from __future__ import annotations

import copyreg
import sys
from typing import Any

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement


class _Bare:
    """What an instance without slots and without a base in C looks like."""


def keeps_state_in_dict(cls: Any) -> bool:
    """Whether pickle would take an instance apart into its class and its ``__dict__``."""
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and cls.__reduce__ is object.__reduce__
        and cls.__getstate__ is object.__getstate__
        and cls.__new__ is object.__new__
        and cls.__basicsize__ == _Bare.__basicsize__
        and cls.__itemsize__ == 0
        and cls not in copyreg.dispatch_table
        and not any(
            hasattr(cls, name)
            for name in ("__setstate__", "__getnewargs__", "__getnewargs_ex__", "__slots__")
        )
        and all(base is object or base.__flags__ & _HEAP_TYPE for base in cls.__mro__)
    )


def is_current(cls: Any) -> bool:
    """Whether a class is still what is found under its name, as pickle would ask."""
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def is_data_descriptor(cls: Any, name: str) -> bool:
    """Whether a class puts something in the way of setting an attribute."""
    return hasattr(type(getattr(cls, "__dict__", {}).get(name)), "__set__")
