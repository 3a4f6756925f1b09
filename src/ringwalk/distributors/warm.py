"""Warm start: the supervisor's hold on templates (see ``template``, which is what they run).

One template at a time takes requests. It is retired when a request needs another environment or
working directory than it has, or when it finds that its files changed; a retired one ends with its
last task. If one is killed, its tasks go on as children of the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from ringwalk._core.spawn import reap
from ringwalk.distributors import template as script
from ringwalk.distributors.launch import Task, streams
from ringwalk.distributors.recognise import Program, recognise
from ringwalk.workers.messages import pair


class Answer(NamedTuple):
    """What a template said, about which task."""

    kind: bytes
    task: Task | None
    body: bytes
    fd: int


class Template:
    """One template process. ``fileno`` is readable when it has said something."""

    def __init__(
        self, modules: Sequence[str], entry: str, environ: Mapping[str, str], mark: tuple[str, str]
    ) -> None:
        self.entry = entry
        self.environ = environ
        self.asked: deque[tuple[bytes, Task]] = deque()  # it answers in this order
        self.tasks: set[Task] = set()  # forked by it, or asked for, and not reaped
        self.retired = False
        self.deaf = False  # its end of the channel is closed
        self._channel, theirs = pair()
        self._channel.setblocking(False)  # send_fds and recv_fds ignore flags before Python 3.12
        argv = [sys.executable, script.__file__, str(theirs.fileno()), entry, *modules]
        null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        with theirs:
            theirs.set_inheritable(True)
            self.pid = os.posix_spawn(
                sys.executable, argv, {**environ, mark[0]: mark[1]}, file_actions=null, setpgroup=0
            )
        self.pidfd = os.pidfd_open(self.pid)

    def fileno(self) -> int:
        return self._channel.fileno()

    def ask(self, task: Task, program: Program, env: Mapping[str, str]) -> bool:
        """Ask for a task; False if it cannot be asked. Raises OSError for the task's files."""
        request = {"argv": program.argv, "module": program.module, "cwd": task.job.cwd}
        data = script.FORK + pickle.dumps({**request, "environ": env})
        if len(data) > script.PACKET:
            return False
        with contextlib.ExitStack() as stack:
            fds = [0]
            for number, path in enumerate(streams(task), start=1):
                fd = number
                if path is not None:
                    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
                    stack.callback(os.close, fd)
                fds.append(fd)
            reading, task.go = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, reading)
            try:
                socket.send_fds(self._channel, [data], [*fds, reading])
            except OSError:  # it died, or lags so far behind that its socket is full
                os.close(task.go)
                task.go = -1
                return False
        self.asked.append((script.FORK, task))
        self.tasks.add(task)
        task.warden = self
        return True

    def reap(self, task: Task) -> None:
        """Ask for the status of a task that has ended."""
        self.asked.append((script.REAP, task))
        try:
            self._channel.send(script.REAP + str(task.pid).encode())
        except OSError:  # it is dead, or was stopped: its tasks are reaped as orphans then
            os.kill(self.pid, signal.SIGKILL)

    def answers(self) -> Iterator[Answer]:
        """What it said since the last time."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._channel, script.PACKET, 1)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:
                return
            for fd in fds:
                os.set_inheritable(fd, False)
            kind, body = data[:1], data[1:]
            task = None if kind in (script.READY, script.REFUSED) else self.asked.popleft()[1]
            yield Answer(kind, task, body, fds[0] if fds else -1)

    def retire(self) -> None:
        """Ask it for nothing new; it ends when its last task has."""
        self.retired = True
        self.settle()

    def settle(self) -> None:
        if self.retired and not self.tasks:
            with contextlib.suppress(OSError):
                self._channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """After its end."""
        self._channel.close()
        os.close(self.pidfd)


class Host(Protocol):
    """What a supervisor offers here."""

    def watch(self, fd: int, act: Callable[[int], None]) -> None: ...
    def unwatch(self, fd: int) -> None: ...
    def born(self, task: Task) -> None: ...
    def refused(self, task: Task) -> None: ...
    def reaped(self, task: Task, status: int | None, used: Sequence[float]) -> None: ...


class Nursery:
    """The templates of one supervisor."""

    def __init__(self, host: Host, modules: Sequence[str], mark: tuple[str, str]) -> None:
        self.pids: set[int] = set()
        self._host = host
        self._modules = modules
        self._mark = mark
        self._current: Template | None = None
        self._barren: tuple[str, Mapping[str, str]] | None = None  # for this, importing failed

    def start(self, task: Task, own: Mapping[str, str]) -> bool:
        """Have the task forked, if it is one for a template. ``born`` or ``refused`` will follow.

        Raises:
            OSError: a file for its output could not be made, or no process.
        """
        if not self._modules:
            return False
        environ = task.environ.variables
        env = {**environ, **own}
        program = recognise(task, env, self._modules)
        if program is None or self._barren == (program.entry, environ):
            return False
        current = self._current
        if current is None or (current.entry, current.environ) != (program.entry, environ):
            if current is not None:
                current.retire()
            current = self._current = Template(self._modules, program.entry, environ, self._mark)
            self.pids.add(current.pid)
            self._host.watch(current.fileno(), lambda events: self._listen(current, events))
            self._host.watch(current.pidfd, lambda _: self._mourn(current))
        return current.ask(task, program, env)

    def reap(self, task: Task) -> None:
        """Learn how a task ended; ``reaped`` follows, now or later."""
        if task.warden.pid in self.pids:
            task.warden.reap(task)
        else:
            self._reap_orphan(task)

    def close(self) -> None:
        """End the templates; no task of theirs runs any more."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.pids.clear()

    def _listen(self, template: Template, events: int) -> None:
        for answer in template.answers():
            match answer.kind, answer.task:
                case script.REFUSED, _:
                    self._barren = template.entry, template.environ
                    self._retire(template)
                case script.STALE, Task() as task:
                    template.tasks.discard(task)
                    self._retire(template)
                    self._refuse(task)
                case script.FORKED, Task() as task:
                    task.pid, task.pidfd = int(answer.body), answer.fd
                    self._birth(task)
                case script.REAPED, Task() as task:
                    status, used = pickle.loads(answer.body)
                    self._done(task, status, used)
        if events & select.EPOLLHUP and template.fileno() >= 0:
            self._host.unwatch(template.fileno())
            template.deaf = True

    def _birth(self, task: Task) -> None:
        task.warm = True
        if not task.terminated:
            with contextlib.suppress(BrokenPipeError):  # killed before it began
                os.write(task.go, b".")
        os.close(task.go)
        task.go = -1
        self._host.born(task)

    def _refuse(self, task: Task) -> None:
        os.close(task.go)
        task.go = -1
        task.warden = None
        self._host.refused(task)

    def _retire(self, template: Template) -> None:
        template.retire()
        if self._current is template:
            self._current = None

    def _done(self, task: Task, status: int | None, used: Sequence[float]) -> None:
        task.warden.tasks.discard(task)
        task.warden.settle()
        self._host.reaped(task, status, used)

    def _mourn(self, template: Template) -> None:
        """It has ended, asked to or not. Its tasks are children of this process now."""
        self._listen(template, 0)  # its last words
        self._host.unwatch(template.pidfd)
        if not template.deaf:
            self._host.unwatch(template.fileno())
        self._retire(template)
        self.pids.discard(template.pid)
        os.waitpid(template.pid, 0)
        asked, template.asked = template.asked, deque()
        for kind, task in asked:
            if kind == script.REAP:
                self._reap_orphan(task)
            else:
                template.tasks.discard(task)
                self._refuse(task)
        template.close()

    def _reap_orphan(self, task: Task) -> None:
        try:
            status, used = reap(task.pid)
        except ChildProcessError:  # the template had reaped it, and did not live to tell
            self._done(task, None, ())
            return
        self._done(task, status, used)
