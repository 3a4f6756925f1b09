"""The parent's script in a fresh interpreter: imported only if something of it is needed there.

multiprocessing imports it at once, and so runs it, unless all its work stands under
``if __name__ == "__main__":``. The functions and classes that it defines travel by value, so most
runs never need the script; for an object that pickles as a name in it, it is imported when the
first one is unpickled.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import process, spawn
from typing import Any

from ringwalk.errors import ConfigError

_KEYS = ("init_main_from_name", "init_main_from_path")


def describe_main() -> dict[str, str]:
    """Where a fresh interpreter finds the script; empty where there is none (``python -c``)."""
    data = spawn.get_preparation_data("ringwalk")
    if not os.path.exists(data.get("init_main_from_path", "/")):  # "<stdin>", or removed since
        return {}
    return {key: data[key] for key in _KEYS if key in data}


def check_working_directory() -> None:
    """Refuse to start an interpreter in a folder that is gone."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ConfigError(
            "the current working directory was removed, and a fresh interpreter begins in it: "
            "os.chdir to another, or use start_method='fork'"
        ) from error


@contextmanager
def main_hidden() -> Iterator[None]:
    """While multiprocessing starts a process, which is then not told of the script."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def import_main_when_needed(description: dict[str, str]) -> None:
    """In the fresh interpreter: have ``__main__`` find in the script what it does not have."""
    if not description:
        return
    empty = sys.modules["__main__"]

    def find(name: str) -> Any:
        if name.startswith("__"):  # asked by import machinery and inspect, which can do without
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        del empty.__dict__["__getattr__"]
        current: Any = process.current_process()
        current._inheriting = True  # multiprocessing's own mark for this moment
        try:
            spawn.prepare(dict(description))
        finally:
            del current._inheriting
        return getattr(sys.modules["__main__"], name)

    empty.__dict__["__getattr__"] = find


def check_not_importing_main() -> None:
    """Refuse a pool in a worker that just imports the script: it would run all over again."""
    if getattr(process.current_process(), "_inheriting", False):
        raise ConfigError(
            "the script is being imported by a worker, which needs a class of it, and starts "
            "workers of its own: put what it does under 'if __name__ == \"__main__\":', or move "
            "the class to a module"
        )
