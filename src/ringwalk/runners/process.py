"""A forked process that executes runs on order, in a process group of its own.

    runner                      process (inherits everything that the runner had at the fork)
      | RUN id  ------------------> |
      |                             | function(id): reads and writes the table's row
      | <---------------- RAN id -- |  or RAN id with the error and its traceback

The socket has no name; pidfd and socket are what the runner waits for. The process ends when its
runner's thread does (parent-death signal), or closes the socket; what it started by ``exec`` is
found by its mark, what it forked by the group.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import NoReturn

from ringwalk._core.process import (
    Undisturbed,
    die_with_parent,
    prefer_as_victim,
    reset_signals,
)
from ringwalk.notebook import format_traceback
from ringwalk.runners.attempt import Outcome, describe_exit
from ringwalk.workers import keeper
from ringwalk.workers.bootstrap import exit_code, fork_watched, leave, prepare_fork
from ringwalk.workers.command import kill_tree
from ringwalk.workers.fork_safety import why_not_fork
from ringwalk.workers.messages import Kind, Message, pair, receive, send
from ringwalk.workers.start import warn_of_fork
from ringwalk.workers.streams import part_from_parent

Run = Callable[[int], object]
LogPath = Callable[[int], Path | None]

_CLOSE_TIMEOUT_S = 5.0
_MOST_ERROR = 2_000
_MOST_TRACEBACK = 50_000


class RunProcess:
    """Runner's side of one process.

    Args:
        run: called in the process with the number of each run that is ordered.
        log: gives the file for a run's output.
        mark: of its own, from ``Launcher.next_mark``.
        limit: called first in the process, to limit the threads of libraries.
        once: whether it ends with its first run.
        siblings: of the runner; the process must not keep their sockets open.

    Raises:
        OSError: no process can be had.
        GpuInParentError: a GPU runtime is initialised here.
    """

    def __init__(
        self,
        run: Run,
        log: LogPath,
        mark: str,
        *,
        limit: Callable[[], None],
        once: bool,
        siblings: Iterable[RunProcess] = (),
    ) -> None:
        prepare_fork()
        if (reason := why_not_fork()) is not None:
            why = "the processes of a runner are always forked from it"
            warn_of_fork(reason, why, "use WorkerMapper, which can start a fresh interpreter")
        parent = os.getpid()
        self._mark = mark
        self._once = once
        self._channel, theirs = pair()
        self._exitcode: int | None = None
        self._busy = False
        self._closed = False

        def life() -> NoReturn:
            for process in (self, *siblings):
                process._channel.close()
            _live(run, log, mark, theirs, parent, limit=limit, once=once)

        with theirs, Undisturbed():  # a Ctrl-C would leave a process that nobody knows of
            try:
                self.pid, self._pidfd = fork_watched(life)
            except BaseException:
                self._channel.close()
                raise
            # Both sides do it, so that it is so whoever comes first.
            with contextlib.suppress(OSError):
                os.setpgid(self.pid, self.pid)

    @property
    def alive(self) -> bool:
        """Whether the process can take an order."""
        return self._exitcode is None and not _readable(self._pidfd, 0)

    @property
    def buried(self) -> bool:
        """Whether its end was taken in."""
        return self._exitcode is not None

    def order(self, run_id: int) -> None:
        """Have it execute a run. One that died meanwhile tells so as the outcome."""
        self._busy = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            send(self._channel, Message(Kind.RUN, run_id))

    def filenos(self) -> tuple[int, ...]:
        # One that ends with its run has said everything only when it has ended.
        return (self._pidfd,) if self._once else (self._channel.fileno(), self._pidfd)

    def outcome(self) -> Outcome | None:
        message = None if self._once else receive(self._channel, wait=False)
        if message is None:
            if not _readable(self._pidfd, 0):
                return None
            message = receive(self._channel, wait=False)  # what it said before its end comes first
            self._reap()
        code = self._exitcode
        if message is not None and message.kind == Kind.RAN:
            self._busy = False
            error, _, formatted = message.body.decode(errors="replace").partition("\0")
            # What raised counts as exit code 1, which an interpreter would end with.
            return Outcome(message.second == 0, message.second, error, formatted)
        if code is None:
            return None
        early = " before the run was finished" if code == 0 else ""
        return Outcome(False, code, describe_exit(code) + early)

    def kill(self) -> None:
        if self._exitcode is None:
            kill_tree(self.pid, self._mark)
            self._reap()

    def close(self) -> None:
        """End it; in good order if it is idle, and with it what its runs left in its group."""
        if self._closed:
            return
        self._closed = True
        # Not only closed: whoever was forked from this process has the socket open as well.
        with contextlib.suppress(OSError):
            self._channel.shutdown(SHUT_RDWR)
        self._channel.close()
        if self._exitcode is None:
            _readable(self._pidfd, 0 if self._busy else _CLOSE_TIMEOUT_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._reap()
        os.close(self._pidfd)

    def _reap(self) -> None:
        # A SIGCHLD handler of the user's program may have been first.
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(self.pid, 0)
            self._exitcode = os.waitstatus_to_exitcode(status)
            return
        self._exitcode = -signal.SIGKILL


def _readable(fd: int, timeout: float) -> bool:
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(timeout * 1000))


def _live(
    run: Run,
    log: LogPath,
    mark: str,
    channel: socket,
    parent: int,
    *,
    limit: Callable[[], None],
    once: bool,
) -> NoReturn:
    """The process's whole life."""
    code = 1
    try:
        if not die_with_parent(parent):
            leave(code)
        os.setpgid(0, 0)
        reset_signals()
        prefer_as_victim()
        limit()
        part_from_parent()
        os.environ[keeper.VARIABLE] = mark
        gc.freeze()  # a collection would copy every page that it marks
        while (message := receive(channel, wait=True)) is not None:
            send(channel, _execute(run, log, message.first))
            if once:
                break
        code = 0
    except SystemExit as stop:  # a run may end its process
        code = exit_code(stop.code)
    except BaseException:  # nothing may return into the runner's frames
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


def _execute(run: Run, log: LogPath, run_id: int) -> Message:
    with _output_to(log(run_id)):
        try:
            run(run_id)
        except SystemExit:
            raise
        except BaseException as error:  # a run may raise anything; the runner decides
            formatted = format_traceback(error)
            sys.stderr.write(formatted)
            text = "".join(traceback.format_exception_only(error)).strip()
            body = _encoded(text[:_MOST_ERROR]) + b"\0" + _encoded(formatted)[-_MOST_TRACEBACK:]
            return Message(Kind.RAN, run_id, 1, body)
    return Message(Kind.RAN, run_id)


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")  # file names may hold what is no text


@contextlib.contextmanager
def _output_to(path: Path | None) -> Iterator[None]:
    """Have all that the process and its children write go to a file, if there is one."""
    if path is None:
        yield
        return
    kept = os.dup(1), os.dup(2)
    # sys.stdout need not be descriptor 1: test runners and notebooks have their own.
    with (
        path.open("w", errors="backslashreplace") as file,
        redirect_stdout(file),
        redirect_stderr(file),
    ):
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            file.flush()
            for target, original in enumerate(kept, 1):
                os.dup2(original, target)
                os.close(original)
