"""The least that a command can cost from Python: ``subprocess.Popen`` and ``wait`` in a loop.

Guarantees: at most ``workers`` commands run at a time; a text goes through a shell, a list not.
Does not: keep a queue, tell usage, end trees, or survive anything. ``map`` tells exit codes.
"""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self


class PopenLoop:
    """Runs one command for each item."""

    def __init__(self, command: str | Sequence[str], workers: int) -> None:
        self._command = command
        self._workers = workers

    def __enter__(self) -> Self:
        return self

    def map(self, items: Sequence[Any]) -> list[int]:
        codes: list[int] = []
        running: dict[int, subprocess.Popen[bytes]] = {}
        poll = select.poll()
        for _ in items:
            if len(running) == self._workers:
                self._reap(running, poll, codes)
            process = subprocess.Popen(self._command, shell=isinstance(self._command, str))
            pidfd = os.pidfd_open(process.pid)
            poll.register(pidfd, select.POLLIN)
            running[pidfd] = process
        while running:
            self._reap(running, poll, codes)
        return codes

    @staticmethod
    def _reap(
        running: dict[int, subprocess.Popen[bytes]], poll: select.poll, codes: list[int]
    ) -> None:
        for pidfd, _ in poll.poll():
            codes.append(running.pop(pidfd).wait())
            poll.unregister(pidfd)
            os.close(pidfd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing lives between maps."""
