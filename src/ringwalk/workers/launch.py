"""Starting a pool's template from the parent: by fork, or in a fresh interpreter."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any, Literal, NoReturn

from ringwalk._core import process
from ringwalk._core.arena import Arena
from ringwalk.workers.bootstrap import patiently, watched
from ringwalk.workers.logs import HandlerLocks
from ringwalk.workers.main_module import (
    check_working_directory,
    describe_main,
    import_main_when_needed,
    main_hidden,
)
from ringwalk.workers.plan import Plan, Workspace
from ringwalk.workers.setup import Setup
from ringwalk.workers.template import Ends, become_template, run_worker

StartMethod = Literal["auto", "fork", "spawn", "forkserver"]
START_METHODS = ("auto", "fork", "spawn", "forkserver")


class Template:
    """The template as the parent holds it."""

    def __init__(
        self,
        pidfd: int,
        control: socket.socket,
        wait: Callable[[], object],
    ) -> None:
        self.pidfd = pidfd
        self.control = control
        self.worked = False  # a worker of it became ready
        self.leash = -1  # readable when the template and all its workers are dead
        self._wait = wait

    def reap(self) -> None:
        """Take note of its end. It has ended, or was sent SIGKILL."""
        # A SIGCHLD handler of the user's program may have been faster.
        with contextlib.suppress(ChildProcessError):
            self._wait()

    def release(self) -> None:
        os.close(self.pidfd)
        os.close(self.leash)
        self.control.close()


def fork_template(
    setup: Setup,
    space: Workspace,
    ends: Ends,
    control: socket.socket,
) -> Template:
    def begin() -> int:
        order = ends.control.fileno(), setup.num_workers
        pid, slot = patiently(lambda: process.fork_template(*order, HandlerLocks()))
        if pid == 0:
            control.close()
            run_worker(lambda: setup, space.plan, space.arena, ends, slot)
        return pid

    pid, pidfd = watched(begin)
    return Template(pidfd, control, lambda: os.waitpid(pid, 0))


def spawn_template(
    pickled_setup: bytes,
    space: Workspace,
    ends: Ends,
    control: socket.socket,
    method: StartMethod,
    *,
    lazy: bool,
) -> Template:
    """Start a fresh interpreter.

    Args:
        lazy: have each worker unpickle the setup, because the template would get threads by it.
    """
    check_working_directory()
    context: Any = multiprocessing.get_context(method)  # typeshed knows no Process on the base
    process: BaseProcess = context.Process(
        target=_SpawnedTemplate(pickled_setup, space.plan, ends, lazy), name="ringwalk-template"
    )
    with main_hidden():
        process.start()
    # multiprocessing waits at exit for all children that it knows of, perhaps before we come to end
    # this one: whose exit handlers come first depends on what the program happened to import.
    children: set[BaseProcess] = multiprocessing.process._children  # type: ignore[attr-defined]
    children.discard(process)
    assert process.pid is not None
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:  # a process that cannot be watched must not stay
        process.kill()
        _join(process)
        raise
    return Template(pidfd, control, lambda: _join(process))


def _join(process: Any) -> None:
    process.join()
    if process.exitcode is None:  # somebody else reaped it, see reap: now nobody knows
        process._popen.returncode = -signal.SIGKILL
    process.close()


class _SpawnedTemplate:
    """Carries the template's arguments to a fresh interpreter."""

    def __init__(self, pickled_setup: bytes, plan: Plan, ends: Ends, lazy: bool) -> None:
        self._pickled_setup = pickled_setup
        self._lazy = lazy
        self._main = describe_main()
        self._plan = plan
        self._ends = ends

    def __getstate__(self) -> dict[str, Any]:
        ends = self._ends
        return {
            "setup": self._pickled_setup,
            "main": self._main,
            "plan": self._plan,
            "lazy": self._lazy,
            "parent_pid": ends.parent_pid,
            "arena": DupFd(ends.arena),
            "wake": DupFd(ends.wake),
            "leash": DupFd(ends.leash),
            "control": DupFd(ends.control.fileno()),
            "workers": [DupFd(end.fileno()) for end in ends.workers],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._ends = Ends(
            state["parent_pid"],
            _received(state["arena"]),
            _received(state["wake"]),
            _received(state["leash"]),
            socket.socket(fileno=_received(state["control"])),
            tuple(socket.socket(fileno=_received(end)) for end in state["workers"]),
        )
        self._plan = state["plan"]
        self._lazy = state["lazy"]
        self._pickled_setup = state["setup"]
        self._main = state["main"]

    def __call__(self) -> NoReturn:
        _let_fork_server_go()
        import_main_when_needed(self._main)
        arena = Arena.attach(self._ends.arena)
        become_template(self._load, self._plan, arena, self._ends, lazy=self._lazy)

    def _load(self) -> Setup:
        setup: Setup = pickle.loads(self._pickled_setup)
        return setup


def _let_fork_server_go() -> None:
    """In the fresh interpreter: do not keep the fork server, if one started it, from ending.

    It ends when nobody holds this pipe any more. The end of the process that asked for the template
    is then its end, too, and it is the parent whose end resumes a template that is stopped.
    """
    server: Any = forkserver._forkserver
    if server._forkserver_alive_fd is not None:
        os.close(server._forkserver_alive_fd)
        server._forkserver_alive_fd = None


def _received(carrier: Any) -> int:
    """A descriptor that came from the parent; multiprocessing leaves it open for exec."""
    fd: int = carrier.detach()
    os.set_inheritable(fd, False)
    return fd
