"""The distributor's hold on its supervisor: how words get there, and records come back.

Safe against exceptions out of signal handlers: what was said is kept until it was sent and may be
sent twice (see ``channel``); a record counts as read once it was dealt with (see ``journal``).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping

from ringwalk.distributors import boot
from ringwalk.distributors.channel import Word, say
from ringwalk.distributors.journal import RECORD_SIZE, START, Record, holds, read, set_goal
from ringwalk.errors import RingwalkError
from ringwalk.workers.messages import pair

_ANSWER_S = 30.0  # a supervisor answers in milliseconds; a machine that swaps takes longer


class Link:
    """One supervisor, from its start to its end. ``close`` must be called."""

    def __init__(
        self, settings: Mapping[str, object], stdout: int | None, stderr: int | None
    ) -> None:
        self._sent = 0
        self._read = START
        self._outbox: deque[tuple[int, Word]] = deque()
        with contextlib.ExitStack() as undo:
            self._channel, theirs = pair()
            undo.callback(self._channel.close)
            self._channel.setblocking(False)
            self._journal = os.memfd_create("ringwalk-journal", os.MFD_CLOEXEC)
            undo.callback(os.close, self._journal)
            set_goal(self._journal, START, 0)
            os.lseek(self._journal, START, os.SEEK_SET)  # where the supervisor begins
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._wake)
            caller = os.pidfd_open(os.getpid())
            undo.callback(os.close, caller)
            fds = {
                "channel": theirs.fileno(),
                "journal": self._journal,
                "wake": self._wake,
                "caller": caller,
            }
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", boot.__file__, json.dumps({**settings, **fds})],
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    pass_fds=tuple(fds.values()),
                    start_new_session=True,  # signals to the caller's group are not for it
                )
            self._pidfd = os.pidfd_open(self._process.pid)
            self._gone = select.poll()
            self._gone.register(self._pidfd, select.POLLIN)
            self._news = select.epoll()
            self._news.register(self._pidfd, select.EPOLLIN)
            # Each write tells once, so that nobody has to read what was written.
            self._news.register(self._wake, select.EPOLLIN | select.EPOLLET)
            undo.pop_all()
            os.close(caller)

    def say(self, word: Word) -> int:
        """Tell the supervisor, waiting only while it has fallen far behind; the word's number.

        Raises:
            RingwalkError: it has not taken a message for half a minute (stopped, or swapped out).
        """
        self._sent += 1
        self._outbox.append((number := self._sent, word))
        while self._outbox:
            first, what = self._outbox[0]
            try:
                say(self._channel, first, what)
            except BlockingIOError:
                self._await_room()
                continue
            except (BrokenPipeError, ConnectionResetError):
                self._outbox.clear()  # it is dead: its commands are being killed, see ``alive``
                break
            if self._outbox[0][0] == first:
                self._outbox.popleft()
        return number

    def take_back(self, word: Word) -> None:
        """Do not send this, if it was not sent."""
        self._outbox = deque(entry for entry in self._outbox if entry[1] is not word)

    def records(self) -> Iterator[Record]:
        """What was not read yet. A record counts as read when the next one is asked for."""
        for record in read(self._journal, self._read):
            yield record
            self._read += RECORD_SIZE

    def wait(self, further: int, deadline: float | None) -> None:
        """Sleep until there may be ``further`` more records than were read; or for less, in any
        case no longer than until the supervisor is gone, is idle, or the deadline has come."""
        set_goal(self._journal, self._read, further)
        if holds(self._journal, self._read, further):
            return
        self._news.poll(None if deadline is None else max(0.0, deadline - time.monotonic()), 2)

    def alive(self) -> bool:
        """Whether the supervisor still runs."""
        # Not by Popen.poll, which takes a lock: one that an exception out of a signal handler
        # comes upon just then stays taken, and the next wait never ends.
        return not self._gone.poll(0)

    def close(self, deadline: float) -> None:
        """Let go; the supervisor, which sees that, ends. Past the deadline it is killed.

        Its keeper then ends what is left of the commands.
        """
        self._channel.shutdown(socket.SHUT_RDWR)
        if not self._gone.poll(max(0.0, deadline - time.monotonic()) * 1000):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # interrupted, and called again
            os.waitpid(self._process.pid, 0)
        self._process.returncode = 0  # there is nothing to wait for any more

    def release(self) -> None:
        """Close the files. Nothing can be said or read any more."""
        self._channel.close()
        self._news.close()
        os.close(self._pidfd)
        os.close(self._journal)
        os.close(self._wake)

    def _await_room(self) -> None:
        poll = select.poll()
        poll.register(self._channel, select.POLLOUT)
        if not poll.poll(_ANSWER_S * 1000):
            raise RingwalkError(
                f"the distributor's supervisor (process {self._process.pid}) has taken no message "
                f"for {_ANSWER_S:.0f} s; continue it if it was stopped, or stop() and start()"
            )
