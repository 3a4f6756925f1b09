"""How a command ended, and what it used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExitInfo:
    """How one command ended.

    At most one of ``exit_code``, ``signal`` and ``error`` is set. None of them: the command was
    terminated while it waited in the queue, and never ran.

    Attributes:
        exit_code: the status that it exited with.
        signal: the number of the signal that killed it.
        error: why it could not be started, or why its status is not known.
        terminated: ``terminate`` or ``stop`` ended it, or took it from the queue.
        warm: it was forked from a template, not started afresh.
        start: when it was started, seconds since the epoch; 0 if it never was.
        end: when its end was noticed, seconds since the epoch.
        user, system: processor time in seconds, that of children it waited for included.
        max_rss: peak resident memory in bytes, of its largest process.
    """

    id: str
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    terminated: bool = False
    warm: bool = False
    start: float = 0.0
    end: float = 0.0
    user: float = 0.0
    system: float = 0.0
    max_rss: int = 0

    @property
    def ok(self) -> bool:
        """Whether it ran and exited with 0."""
        return self.exit_code == 0

    @property
    def wall(self) -> float:
        """Seconds from start to end; 0 if it never ran."""
        return self.end - self.start if self.start else 0.0
