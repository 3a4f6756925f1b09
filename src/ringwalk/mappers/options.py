"""A mapper's options, checked before anything starts."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from ringwalk.describe import text_of
from ringwalk.errors import ConfigError

OnError = Literal["stop", "finish"]
"""``stop``: hand out no more walkers, let running ones finish. ``finish``: run them all."""

Seconds = npt.NDArray[np.float64]
Schedule = Literal["input", "longest"] | Callable[[Seconds], npt.ArrayLike]
"""In which order walkers are handed out. ``input``: as they come. ``longest``: those first whose
segments took longest in the last map that succeeded. A function gets the seconds of that map's
segments and says what each walker of this one is expected to take, as after a resampling:
``lambda seconds: seconds[parents]``."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a map treats failures, and in which order it hands walkers out."""

    on_error: OnError = "stop"
    timeout: float | None = None
    max_retries: int = 1
    schedule: Schedule = "input"

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
        if not callable(self.schedule):
            check_choice("schedule", self.schedule, ("input", "longest"))

    def expected(self, seconds: Seconds | None, count: int) -> Seconds | None:
        """What each of ``count`` walkers is expected to take, by the segments of the last map.

        None where nothing is known. Raises ConfigError for an answer that does not fit.
        """
        if self.schedule == "input" or seconds is None:
            return None
        if self.schedule == "longest":
            return seconds if len(seconds) == count else None
        try:
            costs = np.asarray(self.schedule(seconds), np.float64)
        except (TypeError, ValueError, IndexError) as error:
            raise ConfigError(
                f"the function given as schedule failed on the {len(seconds)} seconds of the last "
                f"map: {text_of(error)}"
            ) from error
        if costs.shape != (count,):
            raise ConfigError(
                f"the function given as schedule returned shape {costs.shape} for {count} walkers; "
                "return one number a walker"
            )
        return costs


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
