"""Distributors that are stopped, and looks at what their commands left."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringwalk.distributors import CommandDistributor


@pytest.fixture
def make() -> Iterator[Callable[..., CommandDistributor]]:
    """Makes distributors that end with the test; not started."""
    made: list[CommandDistributor] = []

    def build(parallelism: int = 2, **options: Any) -> CommandDistributor:
        distributor = CommandDistributor(parallelism, **options)
        made.append(distributor)
        return distributor

    yield build
    for distributor in made:
        distributor.stop()


@pytest.fixture
def distributor(make: Callable[..., CommandDistributor]) -> CommandDistributor:
    started = make()
    started.start()
    return started


@pytest.fixture
def await_end() -> Callable[[int], None]:
    """Returns when the process has ended; fails after a minute."""

    def await_end(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # gone already
            pidfd = os.pidfd_open(pid)
            ended = select.select([pidfd], [], [], 60)[0]
            os.close(pidfd)
            assert ended, f"process {pid} lives on"

    return await_end


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Commands write a line to it to say where they are; whoever reads it waits for that."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path
