"""Functions and classes by value: cloudpickle, with code that keeps the name of its file.

From 3.1.3 on cloudpickle calls the file of every function ``<dynamic-code>``, so the traceback of
a function that was sent would not say where it stands. Here the name travels beside the code. A
cell of a notebook is named as its user knows it, not by the temporary file that IPython invents.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from types import CodeType
from typing import Any

import cloudpickle

from ringwalk.notebook import cell_or_file

BufferCallback = Callable[[pickle.PickleBuffer], Any]


def dumps_by_value(
    value: object, *, protocol: int = 5, buffer_callback: BufferCallback | None = None
) -> bytes:
    """``cloudpickle.dumps``, but functions keep the name of their file."""
    with io.BytesIO() as file:
        _Pickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not CodeType:
            return super().reducer_override(obj)
        make, arguments = self.dispatch_table[CodeType](obj)
        return _code_of_file, (cell_or_file(obj.co_filename), make, arguments)


def _code_of_file(filename: str, make: Callable[..., CodeType], arguments: tuple[Any, ...]) -> Any:
    code = make(*arguments)
    return code if code.co_filename == filename else code.replace(co_filename=filename)
