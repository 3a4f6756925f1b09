"""What the tests of executors submit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def dies_once(tmp_path: Path) -> Callable[[], str]:
    """A call that kills its worker, and is done by the next one."""

    def dies_once() -> str:
        mark = tmp_path / "mark"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    return dies_once
