"""The progress bar of commands: on standard error, if that is a terminal."""

from __future__ import annotations

import os
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar:
    """How many of ``total`` are finished, and how many of those failed."""

    def __init__(self, total: int, shown: bool) -> None:
        self._failed = 0
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown or not os.isatty(2),
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=total, failed=0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, ok: bool) -> None:
        """One more is finished."""
        self._failed += not ok
        self._progress.update(self._task, advance=1, failed=self._failed, refresh=True)
