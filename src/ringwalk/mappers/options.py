"""A mapper's options, checked before anything starts."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

from ringwalk.errors import ConfigError

OnError = Literal["stop", "finish"]
"""``stop``: hand out no more walkers, let running ones finish. ``finish``: run them all."""

Progress = Callable[[int, int], object]
"""Called in the parent with (finished, all) walkers of the map."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a map treats failures and tells of its progress."""

    on_error: OnError = "stop"
    timeout: float | None = None
    max_retries: int = 1
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_choice("on_error", self.on_error, ("stop", "finish"))
        if self.timeout is not None and not (
            isinstance(self.timeout, (int, float)) and 0 < self.timeout < math.inf
        ):
            raise ConfigError(
                f"timeout is {self.timeout!r}; give seconds a segment may run, or None"
            )
        retries = check_integer("max_retries", self.max_retries)
        if not 0 <= retries <= 255:
            raise ConfigError(f"max_retries is {retries}; give 0 to 255")
        if self.progress is not None and not callable(self.progress):
            raise ConfigError(
                f"progress is {self.progress!r}; give a function of (finished, all) or None"
            )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")


def check_integer(name: str, value: SupportsIndex) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{name} is {value!r}; give an integer") from None


def check_seed(seed: SupportsIndex | None) -> int | None:
    if seed is None:
        return None
    number = check_integer("seed", seed)
    if number < 0:
        raise ConfigError(f"seed is {number}; numpy.random.SeedSequence wants 0 or more")
    return number
