"""Exceptions on their way to another process, with what pickle leaves behind: their chain.

Pickle keeps neither cause nor context, and one exception that cannot be unpickled, as many with an
``__init__`` of their own, would make all unreadable. So each one of a chain is pickled by itself,
and one that does not come back is replaced by its text.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from ringwalk.describe import text_of


def pickled_exception(error: BaseException) -> bytes | None:
    """The pickled exception if it also unpickles: many with own __init__ signatures do not."""
    try:
        pickled = pickle.dumps(error)
    except (Exception, SystemExit):  # a user's __reduce__ may do anything
        return None
    return pickled if unpickled_exception(pickled) is not None else None


def unpickled_exception(pickled: bytes) -> BaseException | None:
    try:
        error = pickle.loads(pickled)
    except (Exception, SystemExit):  # a user's __init__ or __setstate__ may do anything
        return None
    return error if isinstance(error, BaseException) else None


def type_name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


StandIn = Callable[[str, str], BaseException]


class ChainedError(Exception):
    """Pickles and copies with its attributes, cause and context. A deep copy shares those two."""

    def __reduce__(self) -> tuple[Any, ...]:
        links = Links(self.__cause__, self.__context__, self.__suppress_context__, self.stand_in)
        return _blank, (type(self), self.args), (vars(self).copy(), links)

    def __setstate__(self, state: Any) -> None:
        attributes, links = state
        vars(self).update(attributes)
        links.set_on(self)

    @staticmethod
    def stand_in(name: str, text: str) -> ChainedError:
        """What takes the place of an exception of this type and text that cannot travel."""
        return ChainedError(f"{name}: {text}")


def _blank(kind: type[ChainedError], args: tuple[Any, ...]) -> ChainedError:
    # Not by kind(*args): its __init__ may want more than the arguments that it passed on. Nor by
    # kind.__new__: beside a second built-in base that is not the one which made the instance.
    builtin: Any = kind
    while builtin.__module__ != "builtins":
        builtin = builtin.__base__
    error: ChainedError = builtin.__new__(kind)
    error.args = args
    return error


class Links(NamedTuple):
    """What an exception refers to."""

    cause: BaseException | None
    context: BaseException | None
    suppress_context: bool
    stand_in: StandIn

    def set_on(self, error: BaseException) -> None:
        error.__cause__ = self.cause
        error.__context__ = self.context
        error.__suppress_context__ = self.suppress_context  # last: setting the cause changes it

    def __deepcopy__(self, memo: dict[int, Any]) -> Links:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        chain: list[BaseException] = []

        def number(error: BaseException | None) -> int | None:
            if error is None:
                return None
            for k, known in enumerate(chain):
                if known is error:
                    return k
            chain.append(error)
            return len(chain) - 1

        ends = number(self.cause), number(self.context), self.suppress_context
        entries: list[_Entry] = []
        for error in chain:  # which grows meanwhile
            if isinstance(error, ChainedError):
                entries.append((None, error, None))
            else:
                pickled = pickled_exception(error)
                stand_in = self.stand_in(type_name(error), text_of(error))
                cause, context = number(error.__cause__), number(error.__context__)
                entries.append((pickled, stand_in, (cause, context, error.__suppress_context__)))
        return _read, (entries, ends, self.stand_in)


_Numbers = tuple[int | None, int | None, bool]
_Entry = tuple[bytes | None, BaseException, _Numbers | None]
"""An exception pickled, what stands in for it, and its links; a ChainedError has its own."""


def _read(entries: list[_Entry], ends: _Numbers, stand_in: StandIn) -> Links:
    chain = [
        (pickled and unpickled_exception(pickled)) or substitute
        for pickled, substitute, _ in entries
    ]

    def links(numbers: _Numbers) -> Links:
        cause, context = (None if number is None else chain[number] for number in numbers[:2])
        return Links(cause, context, numbers[2], stand_in)

    for error, (_, _, numbers) in zip(chain, entries, strict=True):
        if numbers is not None:
            links(numbers).set_on(error)
    return links(ends)
