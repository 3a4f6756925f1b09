"""What a benchmark consists of: contestants that do the same work, and the targets to reach.

A contestant is opened, runs whole maps, is checked and closed; see ``interleave`` for when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

WORKERS = 2


class Pool(Protocol):
    """Anything that maps: a mapper of ringwalk, or a class in ``rivals``."""

    def map(self, items: Any, /) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to do the work.

    Attributes:
        open: starts workers and makes the data; gives a function that runs one map.
        check: asserts that what the last map returned is right. Never timed.
    """

    name: str
    open: Callable[[], AbstractContextManager[Callable[[], Any]]]
    check: Callable[[Any], None]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class AtMost:
    """Ours takes no more than so many seconds a walker.

    Attributes:
        of: the one of ours that is meant; all of them if None.
    """

    seconds: float
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Times:
    """The rival takes at least ``factor`` times as long as ours.

    Attributes:
        rival: name of a rival, a limit or a floor; the fastest rival of the run if None.
        of: the one of ours that is meant; all of them if None.
    """

    rival: str | None
    factor: float
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Contestants side by side.

    Attributes:
        ours: ways of ringwalk to do it; each is held against every target, the fastest rival and
            the floors.
        floors: run in the parent's process: nothing is sent, and a crash takes everything along.
        limits: what no mapper can be faster than, because it does a part of the work and no more.
        rounds: turns that each contestant gets.
    """

    title: str
    walkers: int
    ours: tuple[Contestant, ...]
    rivals: tuple[Contestant, ...]
    targets: tuple[AtMost | Times, ...]
    floors: tuple[Contestant, ...] = ()
    limits: tuple[Contestant, ...] = ()
    rounds: int = 7

    @property
    def contestants(self) -> tuple[Contestant, ...]:
        return (*self.ours, *self.rivals, *self.floors, *self.limits)


def mapping(
    name: str,
    pool: Callable[[], AbstractContextManager[Pool]],
    items: Callable[[], Sequence[Any]],
    check: Callable[[Sequence[Any], list[Any]], None],
) -> Contestant:
    """A contestant that maps ``items()``; ``check`` gets the items and the results.

    The items are made anew each time it is opened, before the workers: nobody is timed in a
    process that still holds another one's data.
    """

    @contextmanager
    def opened() -> Iterator[Callable[[], tuple[Sequence[Any], list[Any]]]]:
        walkers = items()
        with pool() as running:
            yield lambda: (walkers, running.map(walkers))

    return Contestant(name, opened, lambda outcome: check(*outcome))


def named(name: str) -> Contestant:
    """A contestant that its benchmark times by itself, and not ``interleave``."""

    @contextmanager
    def opened() -> Iterator[Callable[[], Any]]:
        raise NotImplementedError(f"{name} is timed by its own benchmark")
        yield

    return Contestant(name, opened, lambda outcome: None)
