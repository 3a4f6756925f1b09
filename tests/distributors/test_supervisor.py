"""The supervisor in this process, where a call of its own can be made to fail."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringwalk._core.spawn import snapshot
from ringwalk.distributors import supervisor as module
from ringwalk.distributors.channel import Submit, say
from ringwalk.distributors.journal import START, Kind, read, set_goal
from ringwalk.distributors.supervisor import Supervisor
from ringwalk.workers.messages import pair


class Wakeful:
    """An epoll that refuses to sleep for ever while commands wait and none runs."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._real: select.epoll = supervisor._poll
        self._supervisor = supervisor

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        if timeout is None and self._supervisor._queue:
            assert self._supervisor._running, "nothing will ever start what waits"
        return self._real.poll(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_what_lacked_a_process_starts_when_the_template_has_refused_the_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lacking = [True]
    spawn: Callable[..., None] = module.spawn

    def spawn_but_once(*args: Any) -> None:
        if lacking:
            lacking.clear()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        spawn(*args)

    monkeypatch.setattr(module, "spawn", spawn_but_once)
    ours, theirs = pair()
    journal = os.memfd_create("journal")
    set_goal(journal, START, 0)
    os.lseek(journal, START, os.SEEK_SET)
    wake, caller = os.eventfd(0), os.pidfd_open(os.getpid())
    supervisor = Supervisor(
        parallelism=2,
        grace=1.0,
        outlive=True,
        warm=["no_such_module"],
        channel=theirs.detach(),
        journal=journal,
        wake=wake,
        caller=caller,
    )
    monkeypatch.setattr(supervisor, "_poll", Wakeful(supervisor))
    files = str(tmp_path / "o{id}"), str(tmp_path / "e{id}")
    for job, command in (1, [sys.executable, "-m", "no_such_module"]), (2, ["true"]):
        say(ours, job, Submit(job, None, command, snapshot(), {}, str(tmp_path), *files))
    ours.close()
    try:
        supervisor.run()
        ended = {record.job: record for record in read(journal, START)}
    finally:
        supervisor.close()
        supervisor._poll.close()
        supervisor._channel.close()
        for fd in (journal, wake, caller, supervisor._children._fd):
            os.close(fd)
    assert {record.kind for record in ended.values()} == {Kind.ENDED}
    assert [os.waitstatus_to_exitcode(ended[job].value) for job in (1, 2)] == [1, 0]
