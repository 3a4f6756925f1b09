"""What ``map`` was called with: one column an argument, one element a walker."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringwalk.describe import shown, text_of
from ringwalk.errors import ConfigError
from ringwalk.memory import WalkerBlock
from ringwalk.workers.job import Column, Constant, Indexed, Rows

_ROWS_OF_A_FRAME = (
    'pass its rows: .itertuples() or .to_dict("records") of pandas, .iter_rows() or .to_dicts() of '
    "polars"
)
_ENDLESS = (itertools.count, itertools.cycle)


@dataclass(slots=True)
class Arguments:
    """Columns of equal length.

    Attributes:
        count: number of walkers.
        blocks: the walker blocks among the columns.
    """

    count: int
    positional: tuple[Column, ...]
    named: Mapping[str, Column]
    blocks: tuple[WalkerBlock, ...]

    @classmethod
    def of(cls, args: Sequence[Iterable[Any]], kwargs: Mapping[str, Iterable[Any]]) -> Arguments:
        """Look at what was passed. Refuses with ConfigError before anything starts."""
        names = [*range(len(args)), *kwargs]
        given = [*args, *kwargs.values()]
        if not given:
            raise ConfigError("map needs at least one argument with one element a walker")
        for k, argument in enumerate(given):
            _check_elements(names[k], argument)
        count = _common_length(names, given)
        columns = [_column(names[k], argument, count) for k, argument in enumerate(given)]
        blocks = tuple([column.block for column in columns if isinstance(column, Rows)])
        if len(blocks) > 1 and len(set(map(id, blocks))) < len(blocks):
            raise ConfigError(
                "the same WalkerBlock is given twice: both would be the same row; pass it once"
            )
        if not kwargs:
            return cls(count, tuple(columns), {}, blocks)
        named = dict(zip(kwargs, columns[len(args) :], strict=True))
        return cls(count, tuple(columns[: len(args)]), named, blocks)


Name = int | str  # of an argument: its position or its keyword


def _label(name: Name) -> str:
    return f"positional argument {name}" if isinstance(name, int) else f"argument {name!r}"


def _check_elements(name: Name, argument: Any) -> None:
    """Refuse what has no elements, or none of a walker's: a frame iterates over its columns."""
    if isinstance(argument, (str, bytes)) or not (
        isinstance(argument, Iterable) or hasattr(type(argument), "__getitem__")
    ):
        raise ConfigError(
            f"{_label(name)} is {shown(argument)}: map takes one element a walker from each "
            "argument; use itertools.repeat(value) for the same value for all"
        )
    if any(hasattr(type(argument), method) for method in ("itertuples", "iter_rows")):
        raise ConfigError(
            f"{_label(name)} is a {type(argument).__name__}, which iterates over its columns; "
            f"{_ROWS_OF_A_FRAME}"
        )


def _length(argument: Any) -> int | None:
    """Length of a sized argument or finite repeat; None where only iterating would tell."""
    if isinstance(argument, itertools.repeat):
        hint = operator.length_hint(argument, -1)  # an endless one has no hint
        return None if hint < 0 else hint
    try:
        return len(argument)
    except TypeError:
        return None


def _common_length(names: Sequence[Name], given: list[Any]) -> int:
    """The number of walkers; iterators of unknown length are replaced by lists on the way."""
    lengths = [_length(argument) for argument in given]
    if (first := lengths[0]) is not None and lengths.count(first) == len(given):
        return first
    known = [length for length in lengths if length is not None]
    for k, argument in enumerate(given):
        if lengths[k] is not None or isinstance(argument, (itertools.repeat, *_ENDLESS)):
            continue
        # One element too many tells an unequal length without draining an endless generator.
        stop = max(known) + 1 if known else None
        given[k] = list(itertools.islice(_iterated(names[k], argument), stop))
        lengths[k] = len(given[k])
        known.append(len(given[k]))
    if not known:
        raise ConfigError(
            "every argument repeats for ever, so there is no number of walkers: give one of them "
            "a length"
        )
    if len(set(known)) > 1:
        listed = ", ".join(
            f"{_label(name)} has {length}"
            for name, length in zip(names, lengths, strict=True)
            if length is not None
        )
        raise ConfigError(f"arguments have unequal lengths: {listed}; give one element a walker")
    return known[0]


def _column(name: Name, argument: Any, count: int) -> Column:
    if isinstance(argument, WalkerBlock):
        argument.fileno()  # refuses a closed block
        return Rows(argument)
    if isinstance(argument, itertools.repeat):
        if count == 0:
            return Constant(None)
        return Constant(next(argument))
    if type(argument) in (list, tuple, range):
        return Indexed(argument)
    if isinstance(argument, np.ndarray) and argument.ndim:
        return Indexed(argument)
    if isinstance(argument, _ENDLESS):
        return Indexed(list(itertools.islice(argument, count)))
    values = list(itertools.islice(_iterated(name, argument), count + 1))
    if len(values) != count:
        raise ConfigError(
            f"{_label(name)}, a {type(argument).__name__} of length {count}, gives "
            f"{len(values) if len(values) < count else 'more'} elements when it is iterated; pass "
            "a sequence with one element a walker"
        )
    return Indexed(values)


def _iterated(name: Name, argument: Iterable[Any]) -> Iterator[Any]:
    try:
        return iter(argument)
    except TypeError as error:
        label, text = _label(name), text_of(error)
        raise ConfigError(f"{label}, {shown(argument)}, cannot be iterated: {text}") from error
