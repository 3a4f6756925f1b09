"""Which functions and classes of ``__main__`` may go to the workers by name.

A name means what a worker has under it: what ``__main__`` was when the worker was forked. A name is
short, and keeps what an initializer prepared there. So what is as the workers know it goes by name,
and what is new or was changed goes by value. A definition may be the same and a helper or a global
that it uses another, so all that it uses is compared, by content.

A change in place is not seen in large data (64 KiB, some thousand elements), nor in objects that
are neither containers, arrays nor instances of plain classes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from ringwalk.memory.fingerprint import Fingerprint

MAIN = b"__main__"


class MainNames:
    """The definitions of ``__main__`` that workers have, by their names.

    Args:
        known: what they have, as it was when they got it.
    """

    def __init__(self, known: Mapping[str, Fingerprint]) -> None:
        self._known = known

    @classmethod
    def now(cls) -> MainNames:
        """For workers that are about to be forked."""
        return cls({name: Fingerprint(value) for name, value in _definitions()})

    def have(self, definition: Any) -> bool:
        """Whether the workers have this function or class of ``__main__``, as it is now."""
        name, nested, _ = definition.__qualname__.partition(".")
        known = self._known.get(name)
        if nested:
            definition = vars(sys.modules["__main__"]).get(name)
        return known is not None and known.holds(definition)

    def have_all(self, payload: bytes) -> bool:
        """Whether the workers have what a payload may name; a name may be there by chance."""
        return all(
            name.encode() not in payload or self.have(value) for name, value in _definitions()
        )


def _definitions() -> Iterator[tuple[str, Any]]:
    """What ``__main__`` defines and pickle would send by name."""
    for name, value in vars(sys.modules["__main__"]).copy().items():
        if (
            isinstance(value, (FunctionType, type))
            or (callable(value) and getattr(value, "__qualname__", None) == name)
        ) and getattr(value, "__module__", None) == "__main__":
            yield name, value
