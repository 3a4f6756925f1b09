"""Progress: a bar on standard error, or a function of the user's.

    mapper = WorkerMapper(segment, progress=True)            a bar, where stderr is a terminal
    mapper = WorkerMapper(segment, progress=print)           print(finished, all)

The bar starts no thread and takes no stream over, so that forking stays safe: whoever reports draws
it, at most ten times a second.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Progress = Callable[[int, int], object]
"""Called in the parent with (finished, all)."""

_BETWEEN_S = 0.1


class Reporter:
    """Tells how far something is.

    Args:
        progress: True for a bar, a function, or None and False for nothing.
        what: what is counted, for the bar.

    Attributes:
        wanted: false where nobody would see anything: then ``tell`` need not be called.

    Raises:
        ConfigError: progress is something else.
    """

    def __init__(self, progress: Progress | bool | None, what: str) -> None:
        if progress is not None and not isinstance(progress, bool) and not callable(progress):
            raise ConfigError(
                f"progress is {progress!r}; give True for a bar, a function of (finished, all), or "
                "None"
            )
        self._asked = progress, what
        self._bar: Bar | None = None
        self._report: Progress | None = None
        if progress is True:
            if sys.stderr is not None and sys.stderr.isatty():
                self._report = self._bar = Bar(what)
        elif callable(progress):
            self._report = progress
        self.wanted = self._report is not None

    def tell(self, finished: int, all_: int) -> None:
        """So many of so many are finished."""
        if self._report is not None:
            self._report(finished, all_)

    def end(self) -> None:
        """Nothing more comes of what was told so far, finished or not. Idempotent."""
        if self._bar is not None:
            self._bar.end()

    def __reduce__(self) -> tuple[type[Reporter], tuple[Any, ...]]:
        return Reporter, self._asked  # a bar stays with its terminal; a copy draws its own


class Counter:
    """A reporter for what comes and ends one by one, in any thread."""

    def __init__(self, progress: Progress | bool | None, what: str) -> None:
        self._reporter = Reporter(progress, what)
        self.wanted = self._reporter.wanted
        self._lock = threading.Lock()
        self._all = self._finished = 0

    def more(self, count: int = 1) -> None:
        """So many were submitted."""
        if self.wanted:
            with self._lock:
                self._all += count

    def fewer(self, count: int = 1) -> None:
        """So many ended, whichever way."""
        if self.wanted and count:
            with self._lock:
                self._finished += count
                finished, all_ = self._finished, self._all
            self._reporter.tell(finished, all_)  # without the lock: it may submit

    def end(self) -> None:
        """Nothing more comes. Idempotent."""
        self._reporter.end()


class Bar:
    """A bar that is drawn when it is called, and stays on the terminal when it ends."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._live: RichProgress | None = None
        self._drawn = 0.0
        self._finished = 0
        self._stop: weakref.finalize[..., Bar] | None = None

    def __call__(self, finished: int, all_: int) -> None:
        with self._lock:
            if self._live is None:
                self._begin(all_)
            assert self._live is not None
            self._finished = max(self._finished, finished)  # threads may overtake each other
            self._live.update(self._live.task_ids[0], completed=self._finished, total=all_)
            now = time.monotonic()
            if now - self._drawn >= _BETWEEN_S or self._finished == all_:
                self._live.refresh()
                self._drawn = now

    def _begin(self, all_: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            auto_refresh=False,  # a thread would make forks unsafe
            redirect_stdout=False,  # a forked segment would write into the parent's bar
            redirect_stderr=False,
        )
        self._live.add_task(self._what, total=all_)
        self._finished, self._drawn = 0, time.monotonic()
        self._live.start()
        # It hides the cursor, which a program that ends early has to have back.
        self._stop = weakref.finalize(self, _give_back, self._live, owner_token())

    def end(self) -> None:
        """Draw the last state and give the cursor back. Idempotent."""
        with self._lock:
            self._live = None
            if self._stop is not None:
                self._stop()


def _give_back(live: RichProgress, owner: int) -> None:
    """Have the terminal be as it was; the cursor of a forked child's parent is none of its own."""
    if is_owner(owner):
        live.stop()
