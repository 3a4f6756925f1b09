"""CommandDistributor: runs shell commands and argv lists, many at a time.

    with CommandDistributor(parallelism=8, output="logs") as distributor:
        ids = distributor.submit_array("simulate --replica $ARRAY_STEP_ID", length=100)
        distributor.wait()
        failed = [name for name in ids if not distributor.exit_info(name).ok]

A supervisor process of its own owns the queue (``ringwalk.distributors.supervisor``), so commands
flow while the caller computes. No call blocks on a command but ``wait`` and ``completed``; none
needs a thread or a signal handler, and none uses processor time while nothing happens.

Guarantees: an id is unique across runs and listed as submitted or running from the call that
returns it until the command has ended; every id has its ``exit_info`` from then on; ``terminate``
ends whole trees and takes queued work away before it returns; when the distributor's process
ends, by SIGKILL too, its commands are ended. An exception out of a signal handler may interrupt
any call: an interrupted submit has submitted nothing, and the distributor can be used on.

Does not: limit cores or memory, retry (``ringwalk xargs`` does), or work from several threads; but
any thread may ``stop`` it while another one waits.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Self

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk.closing import Room
from ringwalk.distributors.channel import Stop, Submit, Terminate
from ringwalk.distributors.exit_info import ExitInfo
from ringwalk.distributors.journal import Kind, Record
from ringwalk.distributors.link import Link
from ringwalk.distributors.orders import Orders, PathLike
from ringwalk.errors import ClosedError, ConfigError, ForkedError, RingwalkError
from ringwalk.observe.progress import Counter, Progress

_ANSWER_S = 30.0
_SLACK_S = 2.0  # between the end of the last command and that of the supervisor


class CommandDistributor:
    """Runs at most ``parallelism`` commands at a time, in order of submission.

    Args:
        parallelism: commands that run at once.
        output: folder for the commands' standard output and error, ``<name>.o<id>`` and
            ``<name>.e<id>``; made if missing. None: both go where ``stdout`` and ``stderr`` say.
        stdout, stderr: as in ``subprocess``, for commands without files of their own. By default
            they are this process's. Standard input is empty.
        grace: seconds between SIGTERM and SIGKILL.
        warm: modules that a template imports once, to fork from it those commands that start with
            one of them: ``python -m module`` and console scripts. See ``template`` for the few
            differences to a fresh start. It is replaced when their files change, by at most a
            second later, or the environment.
        progress: True draws a bar on stderr, where that is a terminal; a function is called with
            (ended, submitted) commands as a call of this object sees them end. It may look at
            this object and submit; to wait, ``terminate`` or ``stop`` is a RingwalkError there.
        outlive: let queued and running commands go on if this process ends without ``stop``.

    Each command finds ``JOB_ID`` in its environment, and in an array ``ARRAY_STEP_ID``, from 0.
    What is submitted before ``start`` waits for it.

    Raises:
        ConfigError: parallelism is below 1 or grace is negative.
    """

    def __init__(
        self,
        parallelism: int,
        *,
        output: PathLike | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        grace: float = 2.0,
        outlive: bool = False,
        warm: Sequence[str] = (),
        progress: Progress | bool | None = None,
    ) -> None:
        self._progress = Counter(progress, "commands")
        if isinstance(parallelism, bool) or not isinstance(parallelism, int) or parallelism < 1:
            raise ConfigError(f"parallelism is {parallelism!r}; pass an integer of at least 1")
        if not 0 <= grace < float("inf"):
            raise ConfigError(f"grace is {grace!r}; pass seconds, 0 to kill at once")
        if isinstance(warm, str) or not all(isinstance(name, str) and name for name in warm):
            raise ConfigError(f"warm is {warm!r}; pass a list of module names")
        self._settings = {
            "parallelism": parallelism,
            "grace": grace,
            "outlive": outlive,
            "warm": list(warm),
        }
        self._grace = grace
        self._orders = Orders(output)
        self._streams = stdout, stderr
        self._owner = owner_token()
        self._room = Room()
        self._link: Link | None = None
        self._started = False
        self._open: dict[str, int] = {}  # submitted or running, in order, each with its step
        self._ended: dict[str, Record] = {}
        # Ended, and not yet told by ``completed``. No list: what is read again is told once.
        self._news: dict[str, None] = {}
        self._taking = False  # records in: a progress function that looks must not do so as well
        self._heard = 0
        self._finalizer: weakref.finalize[..., CommandDistributor] | None = None

    # Life

    @property
    def started(self) -> bool:
        """Between ``start`` and ``stop``."""
        return self._started

    def start(self) -> None:
        """Start the supervisor, and with it whatever was submitted before. Idempotent."""
        self._check_owner()
        if self._started and self._link is not None:
            return
        link = Link(self._settings, *self._streams)
        self._link = link
        self._finalizer = weakref.finalize(self, _abandon, link, self._grace, self._owner)
        self._heard = 0
        self._started = True
        try:
            for job in self._orders.release():
                link.say(job)
        except BaseException:
            self._started = False
            self._part(link, time.monotonic())  # nobody knows which of them it has
            raise

    def stop(self, timeout: float = 10.0) -> None:
        """End every command, run none of the queue, and the supervisor with it. Idempotent.

        Takes no longer than ``timeout`` seconds (and a kill): SIGTERM, then after ``grace``, or
        half the timeout if that is less, SIGKILL. A wait in another thread ends with ClosedError.
        """
        self._check_owner()
        self._check_calm()
        self._room.clear(partial(self._stop, timeout))

    def _stop(self, timeout: float = 10.0) -> None:
        deadline = time.monotonic() + timeout
        self._started = False
        if self._link is None:
            self._take(self._orders.drop(self._open))
            return
        try:
            self._link.say(Stop(min(self._grace, timeout / 2)))
        finally:
            self._part(self._link, deadline)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if is_owner(self._owner):  # a forked child that leaves the block ends nothing
            self.stop()

    # Work

    def submit(
        self,
        command: str | Sequence[str],
        *,
        name: str = "command",
        env: Mapping[str, str] | None = None,
        cwd: PathLike | None = None,
    ) -> str:
        """Queue one command; its id.

        Args:
            command: a string for ``/bin/sh -c``, or a program and its arguments.
            name: begins the names of the output files.
            env: variables on top of this process's environment as it is now.
            cwd: working directory, this process's by default.

        Raises:
            ConfigError: the command is empty or no string or sequence of strings.
        """
        (only,) = self._submit(self._orders.make(command, None, name, env, cwd))
        return only

    def submit_array(
        self,
        command: str | Sequence[str],
        length: int,
        *,
        name: str = "command",
        env: Mapping[str, str] | None = None,
        cwd: PathLike | None = None,
    ) -> list[str]:
        """Queue ``length`` times the same command; the ids, ``<job>_<step>``, by step from 0."""
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise ConfigError(f"length is {length!r}; pass an integer of at least 0")
        return self._submit(self._orders.make(command, length, name, env, cwd))

    def submitted_or_running(self, ids: Iterable[str] | None = None) -> set[str]:
        """Those of ``ids``, of all by default, that wait or run."""
        self._check_owner()
        self._read()
        return set(self._open) if ids is None else self._open.keys() & ids

    def terminate(self, ids: Iterable[str]) -> None:
        """Drop those that wait; end those that run, with everything that they started.

        Returns when nothing of ``ids`` can start any more and SIGTERM is sent; what ignores it is
        killed after ``grace``. Ids that are unknown or have ended are passed over.
        """
        self._check_owner()
        self._check_calm()
        self._read()
        wanted = [name for name in ids if name in self._open]
        if not wanted:
            return
        if self._link is None:
            self._take(self._orders.drop(wanted))
            return
        number = self._link.say(Terminate(wanted))
        deadline = time.monotonic() + _ANSWER_S
        while self._heard < number and self._link is not None:
            if time.monotonic() >= deadline:
                raise RingwalkError(f"the distributor's supervisor is silent since {_ANSWER_S} s")
            self._link.wait(1, deadline)
            self._read()

    def exit_info(self, id: str) -> ExitInfo | None:
        """How the command ended; None while it waits or runs.

        Raises:
            KeyError: no command of this distributor has this id.
        """
        self._check_owner()
        self._read()
        if id in self._ended:
            return self._ended[id].exit_info()
        if id in self._open:
            return None
        raise KeyError(f"no command of this distributor has the id {id!r}")

    def wait(self, ids: Iterable[str] | None = None, timeout: float | None = None) -> bool:
        """Wait until these, all by default, have ended; False if ``timeout`` seconds were less.

        Raises:
            RingwalkError: the distributor is not started, so nothing will ever end.
        """
        self._check_owner()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._room.inside(self._stop):
            open_ = set(self._open if ids is None else ids)
            self._read()
            while open_ := open_ & self._open.keys():
                if not self._sleep(len(open_), deadline):
                    return False
                self._read()
            return True

    def completed(self, timeout: float | None = None) -> list[ExitInfo]:
        """What ended since the last call; waits for one, and is empty after ``timeout`` seconds,
        or when nothing waits or runs. In order of ending."""
        self._check_owner()
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._room.inside(self._stop):
            self._read()
            while not self._news and self._open and self._sleep(1, deadline):
                self._read()
            news, self._news = self._news, {}
        return [self._ended[name].exit_info() for name in news]

    # Below

    def _submit(self, job: Submit) -> list[str]:
        self._check_owner()
        if self._started and self._link is None:  # the supervisor was killed
            self.start()
        ids = job.ids()
        try:
            self._open.update(ids)
            if self._link is None:
                self._orders.keep(job)
            else:
                self._link.say(job)
                self._orders.sent(job)
        except BaseException:
            self._undo(job)
            raise
        self._progress.more(len(ids))
        return list(ids)

    def _undo(self, job: Submit) -> None:
        """Leave nothing of a submit that was interrupted."""
        self._orders.forget()
        self._orders.take_back(job)
        ids = list(job.ids())
        for name in ids:
            self._open.pop(name, None)
        if self._link is not None:
            self._link.take_back(job)
            self._link.say(Terminate(ids))

    def _sleep(self, further: int, deadline: float | None) -> bool:
        """Sleep until so many more may have ended; False when the deadline has passed."""
        self._check_calm()
        if self._link is None:
            raise RingwalkError(
                "the distributor is not started, so what waits in it will never end: start() it"
            )
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return False
        look = now + Room.LOOK_S
        self._link.wait(further, look if deadline is None else min(look, deadline))
        if self._room.closing:
            raise ClosedError("stop() was called while this was waited for; start() it again")
        return True

    def _read(self) -> None:
        """Take in what the supervisor wrote; if it was killed, so was everything that ran."""
        link = self._link
        if link is None or self._taking:
            return
        alive = link.alive()  # first: what it wrote before its death is then read
        self._take(link.records())
        if not alive:
            self._part(link, time.monotonic())

    def _take(self, records: Iterable[Record]) -> None:
        self._taking = True
        try:
            for record in records:
                if record.kind == Kind.HEARD:
                    self._heard = record.value
                elif (name := record.id) in self._open:  # else read before, or undone
                    self._ended[name] = record
                    self._news[name] = None
                    del self._open[name]
                    self._progress.fewer()
        finally:
            self._taking = False

    def _part(self, link: Link, deadline: float) -> None:
        """Let go of the supervisor and account for every command that it had."""
        link.close(deadline)
        with ExitStack() as ends:  # whatever a progress function raises
            ends.callback(link.release)
            ends.callback(self._progress.end)
            self._link = None
            if self._finalizer is not None:
                self._finalizer.detach()
            self._orders.forget()
            self._take(link.records())
            self._take(map(Record.lost, list(self._open)))

    def _check_calm(self) -> None:
        if self._taking:
            raise RingwalkError(
                "a progress function may look and submit, not wait for commands or end them; "
                "do that when the call that told of progress has returned"
            )

    def _check_owner(self) -> None:
        if not is_owner(self._owner):
            raise ForkedError(
                "this distributor belongs to the process that forked this one; make another one "
                "here"
            )


def _abandon(link: Link, grace: float, owner: int) -> None:
    """For a distributor that was not stopped."""
    if is_owner(owner):
        link.close(time.monotonic() + grace + _SLACK_S)
        link.release()
