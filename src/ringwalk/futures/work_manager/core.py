"""WorkManager: hand out tasks, take results as they come. WESTPA's interface.

Waiting for any of n futures costs the same for any n: each manager keeps what became done in a
line, and a caller that drains one set looks at the head of that line only.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import signal
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any, Literal, Self

from ringwalk.errors import ClosedError
from ringwalk.futures.work_manager.environment import WMEnvironment, default_env
from ringwalk.futures.work_manager.future import FutureWatcher, Hub, ThreadHub, WMFuture
from ringwalk.observe.progress import Counter, Progress

Task = tuple[Callable[..., Any], Sequence[Any] | None, Mapping[str, Any] | None]

# How long a wait_any that found nothing trusts that it is told of everything that comes.
_RECHECK_S = 1.0
_LONG_LINE = 4096


class WorkManager(ABC):
    """Base of the managers. A manager must say how it submits; most say how they start and end.

    Args:
        progress: True draws a bar on stderr, where that is a terminal; a function is called with
            (finished, submitted) tasks as they finish, from whichever thread notices.

    Attributes:
        running: between ``startup`` and ``shutdown``.
        n_workers: number of workers, at least 1.
    """

    def __init__(
        self, n_workers: int | None = None, *, progress: Progress | bool | None = None
    ) -> None:
        self._progress = Counter(progress, "tasks")
        # Not the affinity's or a cgroup's number: that is what WESTPA's users expect of 0 and None.
        self.n_workers = n_workers or os.cpu_count() or 1
        self.running = False
        self.prior_sigint_handler: Any = None
        self._sigint_handler_installed = False
        self._hub: Hub = ThreadHub()
        self._line: deque[WMFuture] = deque()  # done, in that order; see wait_any
        self._drained: Callable[[], object] = lambda: None  # the set that was drained last
        self._size = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {self.n_workers} workers>"

    # --- configuration ---------------------------------------------------------------------------

    @classmethod
    def from_environ(cls, wmenv: WMEnvironment | None = None) -> Self:
        """Make one as flags and environment say: ``--n-workers`` or ``WM_N_WORKERS``."""
        return cls((wmenv or default_env).get_val("n_workers", os.cpu_count() or 1, int))

    @classmethod
    def add_wm_args(
        cls, parser: argparse.ArgumentParser, wmenv: WMEnvironment | None = None
    ) -> None:
        """Add flags of this manager's own; most have none."""
        return

    # --- life ------------------------------------------------------------------------------------

    def startup(self) -> None:
        """Start the workers. Idempotent; works again after ``shutdown``."""
        self.running = True

    def shutdown(self) -> None:
        """End the workers; tasks that are not done fail. Idempotent."""
        self.running = False
        self._progress.end()

    def __enter__(self) -> Self:
        self.startup()
        return self

    def __exit__(self, *exception: object) -> Literal[False]:
        self.shutdown()
        return False

    @property
    def is_master(self) -> bool:
        """True in the process that submits; with MPI all start alike and branch on this."""
        return True

    def run(self) -> None:
        """A worker's loop, where ``is_master`` is false."""
        return

    def sigint_handler(self, signum: int, frame: FrameType | None) -> None:
        """Shut down, then do what Ctrl-C did before."""
        self.shutdown()
        prior = self.prior_sigint_handler
        if prior in (signal.SIG_IGN, None):
            return
        if prior == signal.SIG_DFL:
            raise KeyboardInterrupt
        prior(signum, frame)

    def install_sigint_handler(self) -> None:
        """Have Ctrl-C shut the manager down first. For the main thread."""
        if not self._sigint_handler_installed:
            self._sigint_handler_installed = True
            self.prior_sigint_handler = signal.signal(signal.SIGINT, self.sigint_handler)

    # --- tasks -----------------------------------------------------------------------------------

    @abstractmethod
    def submit(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> WMFuture:
        """Have ``fn(*args, **kwargs)`` run by a worker. Tasks start in the order of their calls.

        Raises ClosedError before ``startup`` and after ``shutdown``.
        """

    def submit_many(self, tasks: Iterable[Task]) -> list[WMFuture]:
        """Submit ``(fn, args, kwargs)`` triples; futures in their order."""
        return [self.submit(fn, args, kwargs) for fn, args, kwargs in tasks]

    def _new_future(self) -> WMFuture:
        line = self._line
        while len(line) > _LONG_LINE and line[0]._seen:  # nobody calls wait_any
            line.popleft()
        future = WMFuture(hub=self._hub)
        future._callbacks = (line.append,)
        if self._progress.wanted:
            self._progress.more()
            future._callbacks += (lambda _: self._progress.fewer(),)
        return future

    def _check_running(self) -> None:
        if not self.running:
            raise ClosedError(f"{self!r} is not running; call startup() or use it in a with block")

    # --- waiting ---------------------------------------------------------------------------------

    def as_completed(self, futures: Iterable[WMFuture]) -> Iterator[WMFuture]:
        """Each future once: those that are done first, then the others as they become so."""
        pending = dict.fromkeys(futures)
        watcher = FutureWatcher(pending)
        left = len(pending)
        while left:
            watcher.wait()
            done = watcher.reset()
            left -= len(done)
            for future in done:
                future._seen = True
                yield future

    def submit_as_completed(
        self, task_generator: Iterable[Task], queue_size: int | None = None
    ) -> Iterator[WMFuture]:
        """Submit tasks and yield futures as they become done.

        At most ``queue_size`` tasks are unfinished at a time; None submits all at once. A task is
        taken from the generator only when it is submitted.
        """
        tasks = iter(task_generator)
        first = self.submit_many(itertools.islice(tasks, queue_size))
        watcher = FutureWatcher(first)
        left = len(first)
        while left:
            watcher.wait()
            done = watcher.reset()
            more = self.submit_many(itertools.islice(tasks, len(done)))
            watcher.add(more)
            left += len(more) - len(done)
            for future in done:
                future._seen = True
                yield future

    def wait_any(self, futures: Iterable[WMFuture]) -> WMFuture:
        """One of the futures that is done, at once if any is; else the first that becomes so.

        Raises ValueError for none at all, which nothing could end.
        """
        group = futures if isinstance(futures, (set, frozenset)) else frozenset(futures)
        if not group:
            raise ValueError("wait_any() got no futures: none of them will ever be done")
        found = self._next_of(group)
        # A set that was drained before, and got no more members, holds nothing done that the line
        # has not: look through all members of any other.
        if found is None and (self._drained() is not group or len(group) > self._size):
            found = next((future for future in group if future._done), None)
        while found is None:
            self._hub.wait(lambda: self._next_of(group) is not None, _RECHECK_S)
            found = self._next_of(group) or next((f for f in group if f._done), None)
        self._drained = weakref.ref(group) if group is futures else (lambda: None)
        self._size = len(group)
        found._seen = True
        return found

    def _next_of(self, group: Collection[WMFuture]) -> WMFuture | None:
        """The oldest member of the line that is in the group. It stays in the line.

        What somebody has seen, and is in the group no more, leaves the line.
        """
        line = self._line
        for _ in range(len(line)):
            # Another thread may do the same: nothing but what was looked at may leave the line.
            try:
                future = line[0]
            except IndexError:
                return None
            if future in group:
                return future
            if not future._seen:  # another caller's
                line.rotate(-1)
                continue
            with contextlib.suppress(ValueError):
                line.remove(future)
        return None

    def wait_all(self, futures: Iterable[WMFuture]) -> list[WMFuture]:
        """Wait for each in order; the futures as a list. Raises the first task's error."""
        everything = list(futures)
        for future in everything:
            future.get_result(discard=False)
        return everything
