"""One command as a process: started in a group of its own, ended with everything it started.

For the supervisor only: ``posix_spawn`` takes the working directory from the calling process, so
that process must have no other thread, and no use for a directory of its own.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from resource import struct_rusage
from typing import Any

from ringwalk.distributors.channel import Submit

_SHELL = "/bin/sh"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


@dataclass(slots=True, eq=False)
class Task:
    """A command on its way from the queue to the journal.

    Attributes:
        environ: the caller's environment at the submit.
        mark: the value of ``keeper.VARIABLE`` in all that it starts.
        pidfd: -1 as long as a template was asked for it and has not answered.
        deadline: on the monotonic clock, when what is left of it is killed; None if it may run.
        left: pidfds of what its first process, which has ended, left behind.
        warden: the template that is its parent; None if this process is.
        go: the end of a pipe on which a template's task waits for its start; -1 if none.
    """

    id: str
    job: Submit
    environ: Mapping[str, str]
    step: int
    mark: str
    start: float
    pid: int = 0
    pidfd: int = -1
    deadline: float | None = None
    terminated: bool = False
    left: set[int] = field(default_factory=set)
    warm: bool = False
    go: int = -1
    warden: Any = None


def environment(task: Task, variable: str) -> dict[str, str]:
    """What the command sees: the job's variables, its own numbers, its mark."""
    env = {**task.environ, **task.job.extra, variable: task.mark, "JOB_ID": str(task.job.job)}
    env.pop("ARRAY_STEP_ID", None)
    if task.job.steps is not None:
        env["ARRAY_STEP_ID"] = str(task.step)
    return env


def streams(task: Task) -> tuple[str | None, str | None]:
    """Where standard output and error go; None: where the supervisor's own go."""
    to = task.job.stdout, task.job.stderr
    return to[0] and to[0].replace("{id}", task.id), to[1] and to[1].replace("{id}", task.id)


def spawn(task: Task, env: Mapping[str, str]) -> None:
    """Start the command afresh. Raises OSError, and then nothing was started."""
    command = task.job.command
    argv = [_SHELL, "-c", command] if isinstance(command, str) else command
    program = argv[0]
    if "/" not in program:
        program = _found(program, env.get("PATH", os.defpath))
    actions: list[tuple[Any, ...]] = []
    for fd, path in enumerate(streams(task), start=1):
        if path is not None:
            actions.append((os.POSIX_SPAWN_OPEN, fd, path, _CREATE, 0o666))
    # The interpreter ignores these two; a program expects to be ended by them.
    default = (signal.SIGPIPE, signal.SIGXFSZ)
    try:
        task.pid = os.posix_spawn(
            program, argv, env, file_actions=actions, setpgroup=0, setsigdef=default
        )
    except FileNotFoundError:
        _found.cache_clear()  # it may have moved; the next one looks again
        raise
    # Only this process reaps the child, so the pid is its own until then.
    task.pidfd = os.pidfd_open(task.pid)


@functools.lru_cache(maxsize=256)
def _found(name: str, path: str) -> str:
    """Where the program is; looking takes as long as starting it. A failure is not kept."""
    program = shutil.which(name, path=path)
    if program is None:
        raise FileNotFoundError(errno.ENOENT, "no such program on PATH", name)
    return program


def reap(pid: int) -> tuple[int, struct_rusage]:
    """The status and usage of a child that has ended; what is left of its group is killed."""
    sweep(pid)
    _, status, usage = os.wait4(pid, 0)
    return status, usage


def sweep(group: int) -> None:
    """Kill a group whose leader has ended and is not reaped: the number is still its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def children() -> list[int]:
    """Children of this process, which has one thread; none where the kernel does not tell."""
    try:
        fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        data = b""
        while part := os.read(fd, 65536):
            data += part
    finally:
        os.close(fd)
    return [int(pid) for pid in data.split()]
