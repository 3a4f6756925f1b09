"""What the tests of runners need: a table, and to know that a process is gone."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ringwalk.memory import RunTable


@pytest.fixture
def table() -> Iterator[RunTable]:
    with RunTable({"u": "f8", "f": "f8"}, 2) as table:
        yield table


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """For a run to tell when it has begun, and which processes there are."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Waits for the end of any process; whether it came."""

    def wait(pid: int) -> bool:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        answer = bool(ended.poll(10_000))
        os.close(pidfd)
        return answer

    return wait
