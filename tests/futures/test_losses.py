"""What comes at the one instant at which it could be lost, without anybody noticing."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from ringwalk import Executor
from ringwalk.futures import dispatcher


@pytest.fixture
def undispatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tends what nobody waits for."""
    monkeypatch.setattr(dispatcher, "HEARTBEAT_S", 3600.0)


@pytest.mark.usefixtures("undispatched")
@pytest.mark.parametrize("noticed", ["before", "in it", "while others prepare"])
def test_a_start_that_meets_a_death_does_not_lose_the_task(
    noticed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_once() -> str:
        mark = tmp_path / "mark"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"

    def prepare() -> None:
        """There for the start to wait until each worker has prepared itself."""

    with Executor(1, initializer=prepare) as executor:
        executor.start()
        worker = os.pidfd_open(executor.submit(os.getpid).result())
        future = executor.submit(dies_once)
        select.select([worker], [], [])
        os.close(worker)
        crew = executor._engine._stream.crew  # type: ignore[union-attr]
        if noticed == "before":  # and a Ctrl-C kept anybody from hearing of it
            while not crew.wait(None):
                pass
        elif noticed == "while others prepare":
            monkeypatch.setattr(crew, "_ready", set())  # as if another one had to
            poll, looks = crew.poll, iter([[]])
            monkeypatch.setattr(
                crew, "poll", lambda timeout: poll(timeout) if timeout else next(looks)
            )
        executor.start()
        assert future.result() == "survived"
