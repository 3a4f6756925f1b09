"""What a conformance check is, how a list of them is run, and how one says what it expected.

Plain ``assert`` would be compiled away under ``python -O``, and only pytest says which values
differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    """One check of a contract: call it with what makes an object of the class under test.

    Attributes:
        name: the behaviour that it checks, in words joined by underscores.
        run: raises what went wrong.
    """

    name: str
    run: Callable[[Any], None]

    def __call__(self, make: Any) -> None:
        self.run(make)

    def __str__(self) -> str:
        return self.name


class Checks(list[Check]):
    """A list of checks that fills itself: decorate each function with it."""

    def __call__(self, function: Callable[[Any], None]) -> Callable[[Any], None]:
        self.append(Check(function.__name__, function))
        return function


def run_checks(checks: Sequence[Check], make: Any, deviations: Mapping[str, str] | None) -> None:
    """Run all checks that are not in ``deviations``; raises what failed, all of it at once.

    Raises:
        ValueError: ``deviations`` names no check.
        ExceptionGroup: one exception a failed check, each with a note that names it.
    """
    known = deviations or {}
    unknown = known.keys() - {check.name for check in checks}
    if unknown:
        raise ValueError(
            f"deviations names {', '.join(sorted(unknown))}; the checks are "
            + ", ".join(check.name for check in checks)
        )
    failures: list[Exception] = []
    for check in checks:
        if check.name in known:
            continue
        try:
            check(make)
        except Exception as error:
            error.add_note(f"check {check.name}")
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(checks)} checks failed", failures)


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def expect_equal(found: Any, wanted: Any) -> None:
    """Equal, and of the same type."""
    if type(found) is not type(wanted) or found != wanted:
        raise AssertionError(f"found {found!r}, wanted {wanted!r}")


@contextmanager
def expect_raises(*kinds: type[BaseException]) -> Iterator[list[BaseException]]:
    """One of ``kinds`` leaves the block; it is then in the list."""
    caught: list[BaseException] = []
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        yield caught
    except kinds as error:
        caught.append(error)
    else:
        raise AssertionError(f"nothing was raised, wanted {names}")
