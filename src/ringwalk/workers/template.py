"""The template: a quiet, single-threaded process from which a pool's workers are forked.

It is forked (or spawned) once, at ``init``, and runs no segment. A worker that dies is replaced by
another fork of the template, so the user's process, which by then may hold threads, locks and
GPUs, is never forked in the middle of a run::

    parent --fork/spawn once--> template --fork--> worker 0, worker 1, ...
       |                            |
       +--- SPAWN, QUIT ----------->|
       |<-- SPAWNED + pidfd, EXITED-+

Parent dies: the template sees its pidfd, kills the workers and ends. Template dies: the kernel
kills the workers (parent-death signal, armed by a process whose only thread lives as long as it).
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import NoReturn

from ringwalk._core.arena import Arena
from ringwalk._core.process import (
    die_with_parent,
    keep_freed_memory,
    prefer_as_victim,
    reset_signals,
)
from ringwalk.errors import CudaInParentError
from ringwalk.workers.bootstrap import (
    exit_code,
    fork_watched,
    leave,
    limit_threads,
    make_worker,
)
from ringwalk.workers.cuda_guard import check_fork_safe
from ringwalk.workers.failure import Failure
from ringwalk.workers.loop import serve
from ringwalk.workers.messages import Kind, Message, receive, send
from ringwalk.workers.plan import Plan, Workspace
from ringwalk.workers.remote import RemoteJobs
from ringwalk.workers.setup import Setup
from ringwalk.workers.streams import part_from_parent

QUIT_GRACE_MS = 1000  # idle workers leave within microseconds; others are killed


@dataclass(frozen=True, slots=True)
class Ends:
    """The descriptors that a pool's processes share; each side uses its own."""

    parent_pid: int
    arena: int
    wake: int
    leash: int  # held open by the template and its workers, for the parent to see their end
    control: socket.socket
    workers: tuple[socket.socket, ...]


def run_template(setup: Setup, plan: Plan, arena: Arena, ends: Ends, spin_ns: int) -> NoReturn:
    """The template's whole life."""
    code = 1
    try:
        reset_signals()
        prefer_as_victim()
        keep_freed_memory()
        limit_threads(setup.threads)
        gc.freeze()  # a collection in a worker would copy every page that it marks
        Template(setup, plan, arena, ends, spin_ns).run()
        code = 0
    except BaseException:  # nothing may return into the parent's frames
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


class Template:
    """Forks workers on request and reaps them."""

    def __init__(self, setup: Setup, plan: Plan, arena: Arena, ends: Ends, spin_ns: int) -> None:
        self._setup = setup
        self._plan = plan
        self._arena = arena
        self._ends = ends
        self._spin_ns = spin_ns
        self._pid = os.getpid()
        self._workers: dict[int, tuple[int, int]] = {}  # pidfd -> (slot, pid)
        self._poll = select.poll()

    def run(self) -> None:
        try:
            parent = os.pidfd_open(self._ends.parent_pid)
        except ProcessLookupError:
            return
        control = self._ends.control.fileno()
        self._poll.register(parent, select.POLLIN)
        self._poll.register(control, select.POLLIN)
        for slot in range(self._setup.num_workers):
            self._spawn(slot)
        while True:
            for fd, _ in self._poll.poll():
                if fd == parent:
                    self._kill_all()
                    return
                if fd != control:
                    self._reap(fd)
                    continue
                message = receive(self._ends.control, wait=True)
                if message is None:  # the parent is dying: this end closes before its pidfd tells
                    self._kill_all()
                    return
                if message.kind == Kind.QUIT:
                    self._quit()
                    return
                self._spawn(message.first)

    def _spawn(self, slot: int) -> None:
        def life() -> NoReturn:
            plan, arena = self._plan, self._arena
            run_worker(self._setup, plan, arena, slot, self._ends, self._pid, self._spin_ns)

        try:
            check_fork_safe()
            # Only this process reaps the child, so the pid is its own until then.
            pid, pidfd = fork_watched(life)
        except (CudaInParentError, OSError) as error:
            self._tell(Message(Kind.REFUSED, slot, body=str(error).encode()))
            return
        self._workers[pidfd] = (slot, pid)
        self._poll.register(pidfd, select.POLLIN)
        self._tell(Message(Kind.SPAWNED, slot, pid, fd=pidfd))

    def _reap(self, pidfd: int) -> None:
        slot, pid = self._workers.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._tell(Message(Kind.EXITED, slot, status))

    def _tell(self, message: Message) -> None:
        # A parent that is gone is noticed, and answered to, by run().
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send(self._ends.control, message)

    def _quit(self) -> None:
        """Give workers that were asked to leave a moment for it."""
        waiting = select.poll()
        for pidfd in self._workers:
            waiting.register(pidfd, select.POLLIN)
        left = set(self._workers)
        while left:
            gone = [fd for fd, _ in waiting.poll(QUIT_GRACE_MS)]
            if not gone:
                break
            for fd in gone:
                waiting.unregister(fd)
                left.discard(fd)
        self._kill_all()

    def _kill_all(self) -> None:
        for pidfd, (_, pid) in self._workers.items():
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.waitpid(pid, 0)


def run_worker(
    setup: Setup,
    plan: Plan,
    arena: Arena,
    slot: int,
    ends: Ends,
    template: int,
    spin_ns: int,
) -> NoReturn:
    """A persistent worker's whole life."""
    code = 1
    try:
        if not die_with_parent(template):
            leave(code)
        channel = ends.workers[slot]
        space = Workspace(plan, arena, ends.wake, slot)
        part_from_parent()
        try:
            worker = make_worker(setup, slot)
        except Exception as error:  # worker_init is user code
            failure = pickle.dumps(Failure.of(error, "segment"))
            send(channel, Message(Kind.INIT_FAILED, body=failure))
            leave(code)
        send(channel, Message(Kind.READY))
        serve(space, RemoteJobs(setup, space, worker, channel).load, spin_ns)
        code = 0
    except SystemExit as stop:
        code = exit_code(stop.code)
    except BrokenPipeError:  # the parent is gone, and the template ends this process next
        pass
    except BaseException:  # nothing may return into the template's frames
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)
