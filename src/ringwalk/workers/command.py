"""Shell commands that can be waited for, and ended with everything that they started.

    launcher --spawn--> sh (own process group) --> program --> its children
       |                 pidfd: readable when sh has ended
       `--------------> keeper: kills what is left if this process dies

Guarantees: waiting needs no polling (``fileno`` is a pidfd, for any selector); ``kill`` reaches
the process group and whatever left it but inherited the environment; a launcher that is closed,
or whose process is SIGKILLed, leaves no process of its commands.

Does not: limit how many run, retry, or reap anybody else's children.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk._core.spawn import Child, Strings
from ringwalk.errors import ClosedError
from ringwalk.workers import keeper

_KEEPER_TIMEOUT_S = 10.0
_SHELL = "/bin/sh"
_UNKNOWN = 255  # no success, since nobody knows


class Program:
    """What is to be executed, prepared once: a string for ``sh -c``, a sequence as it is."""

    def __init__(self, command: str | Sequence[str | os.PathLike[str]]) -> None:
        words = [_SHELL, "-c", command] if isinstance(command, str) else command
        self.argv = Strings(map(os.fsencode, words))
        self._name = os.fspath(words[0])
        self._path: str | None = None

    def paths(self, path: str) -> Strings:
        """Where it may be, by this value of PATH; the kernel is asked for each in turn."""
        if path != self._path:
            names = [self._name]
            if "/" not in self._name:
                names = [os.path.join(folder, self._name) for folder in path.split(os.pathsep)]
            self._path, self._paths = path, Strings(map(os.fsencode, names))
        return self._paths


def encoded(variables: Mapping[str, str]) -> list[bytes]:
    """An environment as the kernel takes it."""
    return [os.fsencode(f"{name}={value}") for name, value in variables.items()]


class Launcher:
    """Starts commands, marks them, and sees to it that they end with this process.

    Not thread-safe; a forked child must not use it. ``close`` is idempotent, and happens at exit.
    """

    def __init__(self) -> None:
        # Below the mark of the command that this process belongs to, if it does.
        outer = os.environ.get(keeper.VARIABLE)
        own = f"{os.getpid()}-{secrets.token_hex(8)}"
        self.mark = own if outer is None else f"{outer}.{own}"
        self._numbers = itertools.count()
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(os.getpid()), self.mark],
            stdin=subprocess.PIPE,
            process_group=0,  # a Ctrl-C at the terminal is not for it
        )
        self._finalizer = weakref.finalize(self, _dismiss, self._keeper, self._null, owner_token())

    def next_mark(self) -> str:
        """A mark of its own for one run; set as ``keeper.VARIABLE`` in what the run starts."""
        return f"{self.mark}.{next(self._numbers)}"

    def start(
        self,
        program: Program,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        output: int | None = None,
    ) -> Command:
        """Start a program.

        Args:
            env: added to this process's environment.
            cwd: folder to run in; default: this process's.
            output: a descriptor for its standard output and error; default: where ours go. Its
                standard input is empty.

        Raises:
            OSError: it could not be started (no such program or folder, process limit).
        """
        if not self._finalizer.alive:
            raise ClosedError("this launcher was closed; make another to start commands")
        mark = self.next_mark()
        own = {**(env or {}), keeper.VARIABLE: mark}
        child = Child(
            program.paths(own.get("PATH") or os.environ.get("PATH", os.defpath)),
            program.argv,
            None,
            encoded(own),
            None if cwd is None else os.fsencode(cwd),
            (self._null, output, output),
            wait=True,
        )
        return Command(child, mark)

    def close(self) -> None:
        """End every process that a command left behind. Idempotent."""
        self._finalizer()


class Command:
    """One started command.

    Attributes:
        pid: of the shell, or of the program itself; also its process group.
    """

    def __init__(self, child: Child, mark: str) -> None:
        self.pid = child.pid
        self._child = child
        self._mark = mark
        self._code: int | None = None

    def fileno(self) -> int:
        """A pidfd, readable once the command has ended; valid until ``close``."""
        return self._child.fileno()

    @property
    def returncode(self) -> int | None:
        """Exit status, or minus the signal that ended it; None while it runs."""
        return self._reap(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait at most ``timeout`` seconds for the end; the return code, or None."""
        if self._code is None:
            ended = select.poll()
            ended.register(self._child, select.POLLIN)
            ended.poll(None if timeout is None else max(0.0, timeout) * 1000)
        return self._reap(os.WNOHANG)

    def send_signal(self, number: int) -> None:
        """Signal the whole tree, without waiting for what comes of it."""
        signal_tree(self.pid if self.returncode is None else None, self._mark, number)

    def kill(self) -> None:
        """SIGKILL the whole tree and reap the command; nothing of it runs afterwards."""
        kill_tree(self.pid if self.returncode is None else None, self._mark)
        self._reap(0)

    def terminate(self, grace: float) -> None:
        """SIGTERM the tree, give the command ``grace`` seconds to end, then kill what is left."""
        self.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        if self.wait(grace) is not None:
            # The shell often ends first: let what it ran have its time as well.
            _await_marked(self._mark, deadline)
        self.kill()

    def close(self) -> None:
        """Give up the pidfd. The command, if it runs, goes on. Idempotent."""
        self._child.close()

    def _reap(self, flags: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, flags)
            except ChildProcessError:  # this process ignores SIGCHLD, or reaps what it never made
                self._code = _UNKNOWN
                return self._code
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def signal_tree(group: int | None, mark: str, number: int) -> None:
    """Signal each process of a group (whose leader is not reaped yet) or with the mark once."""
    if group is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, number)
    for pid, pidfd in keeper.marked(mark).items():
        with contextlib.suppress(ProcessLookupError):
            if group is None or os.getpgid(pid) != group:
                signal.pidfd_send_signal(pidfd, number)
        os.close(pidfd)


def kill_tree(group: int | None, mark: str) -> None:
    """SIGKILL the group, then whoever left it, until none of the marked is left."""
    if group is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    keeper.kill_marked(mark)


def _await_marked(mark: str, deadline: float) -> None:
    for pidfd in keeper.marked(mark).values():
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(max(0.0, deadline - time.monotonic()) * 1000)
        os.close(pidfd)


def _dismiss(process: subprocess.Popen[bytes], null: int, owner: int) -> None:
    assert process.stdin is not None
    os.close(null)
    with process.stdin as stdin:
        if not is_owner(owner):
            return
        # Closing would not do: whoever was forked from this process has the pipe open as well.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(b".")
            stdin.flush()
    process.wait(_KEEPER_TIMEOUT_S)
