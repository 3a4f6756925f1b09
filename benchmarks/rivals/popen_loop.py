"""The least that a shell command a run can cost: ``subprocess.Popen`` and ``wait`` in a loop."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self


class PopenLoop:
    """Executes a command for each item, at most ``workers`` at a time; gives the return codes."""

    def __init__(self, command: str, workers: int) -> None:
        self._command = command
        self._workers = workers

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[int]:
        codes: list[int] = []
        running: deque[subprocess.Popen[bytes]] = deque()
        for _ in items:
            if len(running) == self._workers:
                codes.append(running.popleft().wait())
            running.append(subprocess.Popen(self._command, shell=True))
        codes += [process.wait() for process in running]
        return codes

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is left between maps."""
