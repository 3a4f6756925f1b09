"""Distributors with a worker that is a shell: what Jobmon's server is not needed for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringwalk.adapters.jobmon import RingwalkDistributor

Make = Callable[..., RingwalkDistributor]


@pytest.fixture(autouse=True)
def _program_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    # jobmon-core 3.4.8's own distributors look for the worker's program on PATH alone.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A worker that runs its arguments as a shell command."""
    path = tmp_path / "worker"
    path.write_text('#!/bin/sh\nexec sh -c "$*"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def make(stub: Path) -> Iterator[Make]:
    """Makes distributors on the stub; not started."""
    made: list[RingwalkDistributor] = []

    def build(parallelism: int = 2, **options: Any) -> RingwalkDistributor:
        distributor = RingwalkDistributor("ringwalk", parallelism, **options)
        distributor._worker_node_entry_point = str(stub)
        made.append(distributor)
        return distributor

    yield build
    for distributor in made:
        distributor.stop()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Workers write to it to say that they run."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def service(stub: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a distributor in a process of its own, with the handlers of Jobmon's service.

    The text is run with ``d``, a started distributor; SIGTERM raises Interrupted in it. It leads a
    process group, and its standard error is a pipe that nobody reads.
    """
    head = (
        "import signal, sys, time\n"
        "from ringwalk.adapters.jobmon import RingwalkDistributor\n"
        "class Interrupted(Exception): pass\n"
        "def interrupt(*_): raise Interrupted\n"
        "signal.signal(signal.SIGTERM, interrupt)\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "d = RingwalkDistributor('ringwalk', 2)\n"
        f"d._worker_node_entry_point = {str(stub)!r}\n"
        "d.start()\n"
        "def submit(command, n):\n"
        "    return d.submit_array_to_batch_distributor(\n"
        "        command=repr(command), name='n', requested_resources={}, array_length=n)\n"
    )
    started: list[subprocess.Popen[str]] = []

    def start(body: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", head + body],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
