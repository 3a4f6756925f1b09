"""What a runner needs of one execution of a run, and what it says of one that failed."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ringwalk.memory import Status


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        ok: the run finished what it was asked to do.
        exitcode: of the process; minus the signal that killed it; 1 where code raised; None where
            the runner ended it.
        error: one line; empty if ok.
        traceback: where Python code raised, as the interpreter prints it.
    """

    ok: bool
    exitcode: int | None = None
    error: str = ""
    traceback: str = ""

    @property
    def died(self) -> bool:
        """Whether the process ended badly, as opposed to code that raised in good order."""
        return not self.ok and not self.traceback


@dataclass(frozen=True, slots=True)
class RunFailure:
    """A run that failed for good.

    Attributes:
        status: FAILED, TIMEOUT or CANCELLED.
        attempts: how often it was started.
        exitcode: as of its last attempt's ``Outcome``.
        error: one line that says what happened.
        traceback: of an exception in Python code, else empty.
        log: the file that has what the run wrote, if the runner has a ``log_dir``.
    """

    run_id: int
    status: Status
    attempts: int
    exitcode: int | None
    error: str
    traceback: str
    log: Path | None


class Attempt(Protocol):
    """One execution, in another process."""

    def filenos(self) -> Sequence[int]:
        """Descriptors of which one becomes readable when there is something to be told."""

    def outcome(self) -> Outcome | None:
        """How it ended, without waiting; None while it goes on."""

    def kill(self) -> None:
        """End its process and everything that it started. Idempotent."""

    def close(self) -> None:
        """Kill, and give up the descriptors. Idempotent."""


def describe_exit(exitcode: int) -> str:
    """One line for an exit code, or for minus a signal."""
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        return f"was killed by {signal.Signals(-exitcode).name}"
    except ValueError:  # a real-time signal has no name
        return f"was killed by signal {-exitcode}"
