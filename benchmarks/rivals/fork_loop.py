"""The least that a process a task can cost: ``os.fork`` and ``os.waitpid`` in a loop.

Guarantees: at most ``workers`` tasks live at a time, as in ringwalk's TaskMapper.
Does not: bring any result back. ``map`` tells exit statuses in place of results.

One process that forks has its children run at the same time, but forks them one after another,
and a no-op is nearly all fork. ``ForkLoops`` forks in ``workers`` processes at once, as TaskMapper
does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self


class ForkLoop:
    """Runs the function once in a fresh child for each item."""

    def __init__(self, func: Callable[[Any], Any], workers: int) -> None:
        self._func = func
        self._workers = workers

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[int]:
        statuses: list[int] = []
        running: deque[int] = deque()
        for item in items:
            if len(running) == self._workers:
                statuses.append(_reap(running))
            pid = os.fork()
            if pid == 0:
                code = 1  # nothing may return into the parent's frames
                try:
                    self._func(item)
                    code = 0
                finally:
                    os._exit(code)
            running.append(pid)
        while running:
            statuses.append(_reap(running))
        return statuses

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing lives between maps."""


class ForkLoops(ForkLoop):
    """As many processes as workers, made anew for each map, each with a loop over its share."""

    def map(self, items: Sequence[Any]) -> list[int]:
        shares = [items[first :: self._workers] for first in range(self._workers)]
        return ForkLoop(self._run_share, self._workers).map(shares)

    def _run_share(self, share: Sequence[Any]) -> None:
        statuses = ForkLoop(self._func, 1).map(share)
        if any(statuses):
            raise ChildProcessError(f"of {len(share)} tasks some failed: {statuses}")


def _reap(running: deque[int]) -> int:
    # The oldest, by name: waiting for any child would take those of other contestants too.
    _, status = os.waitpid(running.popleft(), 0)
    return status
