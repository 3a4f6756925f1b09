"""What is told of a worker that can never go on."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_LISTED = 8


@dataclass(frozen=True, slots=True)
class StuckWorker:
    """A worker whose every thread waits for a lock that nobody outside of it can release.

    Attributes:
        worker: index of the worker.
        pid: process that is stuck; with ``TaskMapper``, the one that runs the segment.
        doing: what it runs, in words.
        libraries: in which its threads wait, as far as could be told.
        beside: threads that its parent had when it was forked.
        handlers: signals that it has a handler for, which might release the lock.
    """

    worker: int
    pid: int
    doing: str
    libraries: tuple[str, ...]
    beside: tuple[str, ...]
    handlers: tuple[str, ...]

    @property
    def certain(self) -> bool:
        """Whether nothing but the process's end can change it."""
        return not self.handlers

    @property
    def where(self) -> str:
        """In what it waits, as far as could be told."""
        return f"in {', '.join(self.libraries)}" if self.libraries else "for a lock"

    @property
    def text(self) -> str:
        """What was found, and why, as sentences."""
        verdict = "can never go on"
        if not self.certain:
            verdict = f"may be stuck, unless its handler of {', '.join(self.handlers)} wakes it"
        inside = f" {self.where}" if self.libraries else ""
        beside = ""
        if self.beside:
            beside = (
                " Its parent had other threads when it was forked: "
                f"{_listed(self.beside)}. A lock that one of them held stays locked in the worker."
            )
        return (
            f"{self.doing} {verdict}: every thread of its process (worker {self.worker}, pid "
            f"{self.pid}) waits{inside} for a lock that no other process can release.{beside}"
        )

    @property
    def advice(self) -> str:
        """What to do, as sentences."""
        return (
            'Start the workers with start_method="spawn", or before the first use of what has '
            "threads; timeout= ends a segment that takes too long."
        )


def _listed(threads: tuple[str, ...]) -> str:
    more = len(threads) - _MOST_LISTED
    return ", ".join(threads[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")
