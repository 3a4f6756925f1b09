"""The supervisor: a process that owns the queue, and starts, watches and ends the commands.

    distributor --Submit, Terminate, Stop (packets)--> supervisor --> command, command, ...
         ^                                              |     |          each its own group
         '------ journal (memory file) + eventfd -------'     '--> keeper
         '--> pidfd of the distributor's process -------------^

Commands keep flowing while the distributor's process computes, and they end when it does: the
supervisor sees its end by a pidfd. Should the supervisor be killed, the keeper
(``ringwalk.workers.keeper``) ends what it had started. It has one thread, waits in ``epoll`` for
messages, pidfds and deadlines, and takes no processor time while nothing happens.

As the adoptive parent of orphans it also reaps what outlives its own parent: the tasks of a
killed template, with their exit status, and daemons.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ringwalk._core.process import adopt_orphans, resume_without_parent
from ringwalk._core.spawn import handled_signals, reap
from ringwalk.distributors.channel import Stop, Submit, Terminate, hear
from ringwalk.distributors.journal import Kind, Record, append, goal_reached, pack
from ringwalk.distributors.launch import (
    Children,
    Environment,
    Task,
    spawn,
    sweep,
    variables,
)
from ringwalk.distributors.warm import Nursery
from ringwalk.workers import keeper
from ringwalk.workers.command import Launcher, Program, kill_tree, signal_tree

_TRANSIENT = (errno.EAGAIN, errno.ENOMEM)


def supervise(settings: str) -> None:
    """The supervisor's whole life."""
    resume_without_parent()  # to see that it is gone
    # Inherited as ignored, it would have the kernel reap commands, and their ends be unknown.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    adopt_orphans()
    supervisor = Supervisor(**json.loads(settings))
    try:
        supervisor.run()
    finally:
        supervisor.close()


class Supervisor:
    """Holds the queue and the running commands of one distributor."""

    def __init__(
        self,
        *,
        parallelism: int,
        grace: float,
        outlive: bool,
        warm: Sequence[str],
        channel: int,
        journal: int,
        wake: int,
        caller: int,
    ) -> None:
        for fd in (channel, journal, wake, caller):
            os.set_inheritable(fd, False)  # commands must not have them
        self._parallelism = parallelism
        self._grace = grace
        self._outlive = outlive
        self._channel = socket.socket(fileno=channel)
        self._journal = journal
        self._wake = wake
        self._handled = handled_signals()
        self._launcher = Launcher()
        self._children = Children()
        self._own = set(self._children.pids())  # not commands: the keeper
        self._bereft = False  # whether there may be orphans to adopt
        self._short = False  # of processes or memory; until a command ends, or none runs
        mark = keeper.VARIABLE, self._launcher.next_mark()
        self._nursery = Nursery(self, warm, mark)
        self._heard = 0
        self._leaving = False
        self._environ = Environment(())
        # In order of submission. Ordered, because a dict that is emptied from its front is slow.
        self._queue: OrderedDict[str, tuple[Submit, Program, Environment, int]] = OrderedDict()
        self._running: dict[str, Task] = {}
        self._records: list[bytes] = []
        self._spent: list[Task] = []  # reaped, and their pidfds still open
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._callers = (channel, caller)
        self.watch(channel, self._listen)
        self.watch(caller, self._orphaned)

    def run(self) -> None:
        while self._running or self._queue or not self._leaving:
            for fd, events in self._poll.poll(self._patience()):
                if fd in self._watched:  # an earlier event of this round may have settled it
                    self._watched[fd](events)
            # First what others wait for.
            self._fill()
            self._publish()
            self._discard()
            self._expire()
            if self._bereft:
                self._adopt()

    def close(self) -> None:
        """End whatever a command left behind."""
        self._nursery.close()
        self._launcher.close()

    # What comes in

    def _listen(self, events: int) -> None:
        if events & select.EPOLLHUP:
            self._orphaned(events)
        else:
            self._hear(all_of_it=False)

    def _hear(self, *, all_of_it: bool) -> None:
        while (heard := hear(self._channel)) is not None:
            number, word = heard
            if number <= self._heard:  # sent again after an interruption
                continue
            match word:
                case Submit():
                    try:
                        self._enqueue(word)
                    except (OSError, ValueError, TypeError) as error:
                        self._refuse_all(word, error)
                case Terminate():
                    self._terminate(word.ids, self._grace)
                    self._records.append(pack(*Record(Kind.HEARD, number)))
                case Stop():
                    self._stop(word.grace)
            self._heard = number
            if not all_of_it and self._queue and len(self._running) < self._parallelism:
                return  # to start it first; epoll tells again that there is more

    def _orphaned(self, _: int) -> None:
        """The distributor's process has ended, or has let go of its end."""
        self._hear(all_of_it=True)
        for fd in [
            fd for fd, act in self._watched.items() if act in (self._listen, self._orphaned)
        ]:
            self.unwatch(fd)
        self._leaving = True
        if not self._outlive:
            self._stop(self._grace)

    def _enqueue(self, job: Submit) -> None:
        if job.environ is not None:
            self._environ = Environment(job.environ)
        program = Program(job.command)
        for name, step in job.ids().items():
            self._queue[name] = job, program, self._environ, step

    def _terminate(self, ids: Iterable[str], grace: float) -> None:
        deadline = time.monotonic() + grace
        for name in ids:
            if name in self._running:
                self._end(self._running[name], deadline)
            elif name in self._queue:
                job, _, _, step = self._queue.pop(name)
                record = Record(Kind.DROPPED, 0, job.job, step, terminated=True, end=time.time())
                self._records.append(pack(*record))

    def _stop(self, grace: float) -> None:
        self._leaving = True
        self._terminate([*self._queue, *self._running], grace)

    # Commands

    def _fill(self) -> None:
        while self._queue and len(self._running) < self._parallelism:
            if self._short and self._running:  # the end of one of those may help
                return
            name, (job, program, environ, step) = self._queue.popitem(last=False)
            mark = self._launcher.next_mark()
            task = Task(name, job, program, environ, step, mark, time.time())
            try:
                self._start(task)
            except OSError as error:
                self._refuse(task, error)
            except (ValueError, TypeError):  # what no program can be given
                self._refuse(task, OSError(errno.EINVAL, os.strerror(errno.EINVAL)))

    def _start(self, task: Task) -> None:
        own = variables(task, keeper.VARIABLE)
        if not self._nursery.start(task, own):
            spawn(task, own, self._handled)
            self.born(task)
        self._running[task.id] = task

    def _refuse(self, task: Task, error: OSError) -> None:
        """It could not be started. Where another's end may help, it waits for that."""
        if error.errno in _TRANSIENT and self._running and not task.terminated:
            self._short = True
            self._requeue(task)
        else:
            self._record(task, Kind.REFUSED, error.errno or errno.EIO)

    def _refuse_all(self, job: Submit, error: Exception) -> None:
        number = getattr(error, "errno", None) or errno.EINVAL
        for name, step in job.ids().items():
            self._queue.pop(name, None)
            self._records.append(
                pack(*Record(Kind.REFUSED, number, job.job, step, end=time.time()))
            )

    def born(self, task: Task) -> None:
        """The command has a process."""
        # An end comes once, and its descriptor leaves the set when it is closed.
        self._watched[task.pidfd] = partial(self._ended, task)
        self._poll.register(task.pidfd, select.EPOLLIN | select.EPOLLONESHOT)

    def refused(self, task: Task) -> None:
        """No template will start this: it waits at the head of the queue for another way."""
        if self._running.pop(task.id, None) is task:
            self._requeue(task)

    def _requeue(self, task: Task) -> None:
        self._queue[task.id] = task.job, task.program, task.environ, task.step
        self._queue.move_to_end(task.id, last=False)

    def _end(self, task: Task, deadline: float) -> None:
        """SIGTERM now, SIGKILL at the deadline, or at an earlier one that it has already."""
        if task.deadline is not None:
            task.deadline = min(task.deadline, deadline)
            return
        task.terminated = True
        if task.pid == 0:  # a template was asked for it; it will find that it is not to begin
            del self._running[task.id]
            self._record(task, Kind.DROPPED, 0)
            return
        task.deadline = deadline
        for number in (signal.SIGTERM, signal.SIGCONT):  # what is stopped must hear of it as well
            signal_tree(task.pid, task.mark, number)

    def _expire(self) -> None:
        now = time.monotonic()
        for task in list(self._running.values()):
            if task.deadline is not None and task.deadline <= now:
                task.deadline = float("inf")  # SIGKILL is the last word
                kill_tree(task.pid, task.mark)

    def _ended(self, task: Task, _: int) -> None:
        """The first process of the command has ended; it is not reaped yet."""
        del self._watched[task.pidfd]
        if task.terminated:
            # The shell often ends first; what it ran has until the deadline as well.
            for pidfd in keeper.marked(task.mark).values():
                task.left.add(pidfd)
                self.watch(pidfd, partial(self._left, task, pidfd))
        if not task.left:
            self._finish(task)

    def _left(self, task: Task, pidfd: int, _: int) -> None:
        self.unwatch(pidfd)
        os.close(pidfd)
        task.left.discard(pidfd)
        if not task.left:
            self._finish(task)

    def _finish(self, task: Task) -> None:
        if task.warden is None:
            try:
                status, used = reap(task.pid)
            except ChildProcessError:  # somebody else reaped it
                self.reaped(task, None, ())
            else:
                self.reaped(task, status, used)
        else:
            sweep(task.pid)
            self._nursery.reap(task)

    def reaped(self, task: Task, status: int | None, used: Sequence[float]) -> None:
        """The command has ended for good; its status is None if nobody knows it."""
        known = self._running.pop(task.id, None) is not None  # not dropped before it began
        failure = None if task.child is None else task.child.failure()
        self._spent.append(task)
        self._short = False
        self._bereft = True
        if failure is not None:
            self._refuse(task, failure)
        elif known:
            self._record(task, Kind.LOST if status is None else Kind.ENDED, status or 0, used)

    def _discard(self) -> None:
        for task in self._spent:
            if task.child is None:
                os.close(task.pidfd)
            else:
                task.child.close()
        self._spent.clear()

    def _adopt(self) -> None:
        """Take note of orphans that became children of this process; reap those that ended."""
        self._bereft = False
        known = self._own | self._nursery.pids | {task.pid for task in self._running.values()}
        for pid in self._children.pids():
            if pid in known or os.waitpid(pid, os.WNOHANG)[0]:
                continue
            self._own.add(pid)
            pidfd = os.pidfd_open(pid)
            self.watch(pidfd, partial(self._bury, pid, pidfd))

    def _bury(self, pid: int, pidfd: int, _: int) -> None:
        """Reap an orphan; its own children are this process's from now on."""
        self.unwatch(pidfd)
        os.close(pidfd)
        self._own.discard(pid)
        with contextlib.suppress(ChildProcessError):  # the launcher reaps its keeper by itself
            os.waitpid(pid, 0)
        self._bereft = True

    # What goes out

    def _record(self, task: Task, kind: int, value: int, used: Sequence[float] = ()) -> None:
        user, system, kibibytes = used or (0.0, 0.0, 0)
        self._records.append(
            pack(
                kind,
                value,
                task.job.job,
                task.step,
                task.terminated,
                task.warm,
                0.0 if kind == Kind.DROPPED else task.start,
                time.time(),
                user,
                system,
                int(kibibytes) * 1024,
            )
        )

    def _publish(self) -> None:
        if self._records:
            append(self._journal, self._records)
            self._records.clear()
            if not self._running or goal_reached(self._journal):
                os.eventfd_write(self._wake, 1)

    # Waiting

    def _patience(self) -> float | None:
        """Seconds until the next deadline, None if there is none."""
        deadlines = [task.deadline for task in self._running.values() if task.deadline is not None]
        earliest = min(deadlines, default=float("inf"))
        return None if earliest == float("inf") else max(0.0, earliest - time.monotonic())

    def watch(self, fd: int, act: Callable[[int], None]) -> None:
        self._watched[fd] = act
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        del self._watched[fd]
        self._poll.unregister(fd)
