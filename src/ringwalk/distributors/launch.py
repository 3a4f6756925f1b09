"""One command as a process: started in a group of its own, ended with everything it started.

A start is not waited for: several processes get as far as their programs at the same time, and
one whose files lie on a slow disk holds up no other. What went wrong is told at the process's end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ringwalk._core.spawn import Child, Strings
from ringwalk.distributors.channel import Submit
from ringwalk.workers.command import Program, encoded


class Environment:
    """The caller's environment at a submit, for the kernel and, as ``variables``, for templates."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        # A command has a step of its own, or none.
        self._entries = [entry for entry in entries if not entry.startswith(b"ARRAY_STEP_ID=")]
        self.strings = Strings(self._entries)

    @functools.cached_property
    def variables(self) -> dict[str, str]:
        pairs = (os.fsdecode(entry).partition("=") for entry in self._entries)
        return {name: value for name, _, value in pairs}


@dataclass(slots=True, eq=False)
class Task:
    """A command on its way from the queue to the journal.

    Attributes:
        environ: at the submit.
        mark: the value of ``keeper.VARIABLE`` in all that it starts.
        child: its process; None for a template's.
        pidfd: -1 as long as a template was asked for it and has not answered.
        deadline: on the monotonic clock, when what is left of it is killed; None if it may run.
        left: pidfds of what its first process, which has ended, left behind.
        warden: the template that is its parent; None if this process is.
        go: the end of a pipe on which a template's task waits for its start; -1 if none.
    """

    id: str
    job: Submit
    program: Program
    environ: Environment
    step: int
    mark: str
    start: float
    pid: int = 0
    child: Child | None = None
    pidfd: int = -1
    deadline: float | None = None
    terminated: bool = False
    left: set[int] = field(default_factory=set)
    warm: bool = False
    go: int = -1
    warden: Any = None


def variables(task: Task, variable: str) -> dict[str, str]:
    """What the command sees beside the caller's environment: the job's, its numbers, its mark."""
    own = {**task.job.extra, "JOB_ID": str(task.job.job), variable: task.mark}
    own.pop("ARRAY_STEP_ID", None)
    if task.job.steps is not None:
        own["ARRAY_STEP_ID"] = str(task.step)
    return own


def streams(task: Task) -> tuple[str | None, str | None]:
    """Where standard output and error go; None: where the supervisor's own go."""
    to = task.job.stdout, task.job.stderr
    return to[0] and to[0].replace("{id}", task.id), to[1] and to[1].replace("{id}", task.id)


def spawn(task: Task, own: Mapping[str, str], handled: int) -> None:
    """Start the command afresh; ``handled`` as for ``Child``.

    Raises:
        OSError: there is no process to be had.
    """
    path = own.get("PATH") or task.environ.variables.get("PATH", os.defpath)
    files = [path if path is None else os.fsencode(path) for path in streams(task)]
    task.child = Child(
        task.program.paths(path),
        task.program.argv,
        task.environ.strings,
        encoded(own),
        os.fsencode(task.job.cwd),
        (None, *files),
        wait=False,
        handled=handled,
    )
    task.pid, task.pidfd = task.child.pid, task.child.fileno()


def sweep(group: int) -> None:
    """Kill a group whose leader has ended and is not reaped: the number is still its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


class Children:
    """The children of this process, which has one thread; none where the kernel does not tell."""

    def __init__(self) -> None:
        try:
            path = f"/proc/self/task/{os.getpid()}/children"
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1

    def pids(self) -> list[int]:
        data = b""
        while self._fd >= 0 and (part := os.pread(self._fd, 65536, len(data))):
            data += part
        return [int(pid) for pid in data.split()]
