"""The crew of a WorkerMapper: persistent workers, forked from a template."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

from ringwalk._core.leash import let_leash_go, make_leash
from ringwalk._core.process import Undisturbed
from ringwalk.errors import CudaInParentError, GpuInParentError, RingwalkError, WorkerInitError
from ringwalk.memory.by_value import dumps_by_value
from ringwalk.memory.main_names import MainNames
from ringwalk.workers.bootstrap import prepare_fork
from ringwalk.workers.crew import Death, EarlyDeaths, pid_of
from ringwalk.workers.failure import Failure
from ringwalk.workers.fresh import wait_for_leash
from ringwalk.workers.job import Job
from ringwalk.workers.launch import StartMethod, Template, fork_template, spawn_template
from ringwalk.workers.messages import Kind, Message, pair, pairs, receive, send
from ringwalk.workers.native_threads import OtherThreads
from ringwalk.workers.plan import Workspace
from ringwalk.workers.setup import Setup
from ringwalk.workers.start import Start, choose
from ringwalk.workers.stuck import StuckWatch, warn_of
from ringwalk.workers.template import Ends
from ringwalk.workers.watch import Events, Watch

# A fork that met a lock held by another thread hangs for ever. What the user's own code takes
# after it, imports of a fresh interpreter and worker_init, has no limit.
START_TIMEOUT_S = 120.0
# How long a template that has worked may take to fork a worker. It is stopped or hangs if longer.
_ANSWER_TIMEOUT_S = 5.0
_START_LOOK_S = 1.0  # how often a start that takes long is looked at
_CLOSE_TIMEOUT_S = 5.0
_QUIT_TIMEOUT_S = 1.5  # of which the template gives its workers one second


class PersistentCrew:
    """Parent's side of a template and its workers.

    Args:
        find_block: gives the descriptor of a walker block by number, None when it is gone.
    """

    def __init__(
        self,
        setup: Setup,
        space: Workspace,
        start_method: StartMethod,
        find_block: Callable[[int], int | None],
    ) -> None:
        self._setup = setup
        self._space = space
        self._asked = start_method
        self.start: Start | None = None  # of the template, once it was chosen
        self._lazy = False  # each worker unpickles the setup, see template.become_template
        self._find_block = find_block
        self._template: Template | None = None
        self._channels = pairs(setup.num_workers)
        self._pidfds: dict[int, int] = {}  # slot -> pidfd
        self._statuses: dict[int, int] = {}  # slot -> wait status, told by the template
        self._leashes: dict[int, int] = {}  # slot -> of a worker that forks a process a task
        self._starting: set[int] = set()  # asked for, no pidfd yet
        self._asked_at = 0.0  # when the first of them was, or the template last forked one
        self._ready: set[int] = set()
        self._early_deaths = EarlyDeaths()
        self._watch = Watch(space.wake_fd)
        if start_method != "fork":
            space.codec.main = MainNames({})
        self._slots_by_fd: dict[int, int] = {}
        self.stuck = StuckWatch(space.board, setup.num_workers)
        self.beside = OtherThreads()
        for slot, (ours, _) in enumerate(self._channels):
            self._slots_by_fd[ours.fileno()] = slot
            self._watch.add(ours.fileno())

    def fill(self, job: Job | None, mourn: Callable[[Death], object] | None = None) -> None:
        """Start what is missing; wait until all are ready, unless nothing can go wrong in them.

        A worker that was forked and has nothing to prepare takes tasks as soon as it runs. Where
        tasks are open, ``mourn`` settles each death that is noticed here.
        """
        events = self.poll(0)  # tells of those that were killed while idle
        if len(self._ready) == self._setup.num_workers and not events:
            return
        for death in self.handle(events):
            if mourn is not None:
                mourn(death)
        for slot in filter(self.vacant, range(self._setup.num_workers)):
            self._replace(slot)
        assert self.start is not None
        if self.start.method == "fork" and not self._setup.prepares:
            return
        # Some may be ready before the template has told of their processes.
        while len(self._ready) < self._setup.num_workers or self._starting:
            for death in self.wait(_START_LOOK_S):
                if mourn is not None:
                    mourn(death)
                self._replace(death.slot)
            warn_of(self.stuck.look(self, "task {}".format))
            if self._unanswered(_ANSWER_TIMEOUT_S):
                self._replace_template()

    @property
    def forks_tasks(self) -> bool:
        """Whether each task runs in a process of its own."""
        return self._setup.fresh

    def _replace(self, slot: int) -> None:
        self._space.forget(slot)
        self.restart(slot)

    def restart(self, slot: int) -> None:
        template = self._template or self._start_template()
        # Two workers of one slot would write to one heap, over each other's results. A Ctrl-C
        # between asking and taking note of it would have the next map ask again.
        with Undisturbed():
            if not self.vacant(slot):  # a signal handler that looked after the workers was first
                return
            if not self._starting:
                self._asked_at = time.monotonic()
            # A template that is gone takes what it was asked for along: see _lose_template.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                send(template.control, Message(Kind.SPAWN, slot))
            self._starting.add(slot)

    def _start_template(self) -> Template:
        chosen = self.start = choose(self._asked, partial(dumps_by_value, self._setup))
        if chosen.method == "fork":
            prepare_fork()
            self.beside = OtherThreads.now()
        with Undisturbed():  # a Ctrl-C would leave a template that nobody knows of
            ours, theirs = pair()
            try:
                leash, held = make_leash()
            except OSError:
                ours.close()
                theirs.close()
                raise
            if chosen.method == "fork":
                self._space.codec.main = MainNames.now()
            else:
                self._space.codec.main = MainNames({})
            ends = Ends(
                os.getpid(),
                self._space.arena.fileno(),
                self._space.wake_fd,
                held,
                theirs,
                tuple(end for _, end in self._channels),
            )
            try:
                if chosen.method == "fork":
                    template = fork_template(self._setup, self._space, ends, ours)
                else:
                    template = spawn_template(
                        chosen.pickled, self._space, ends, ours, chosen.method, lazy=self._lazy
                    )
            except BaseException:
                ours.close()
                os.close(leash)
                raise
            finally:
                theirs.close()
                let_leash_go(held)
            template.leash = leash
            self._template = template
            self._watch.add(ours.fileno())
            self._watch.add(template.pidfd)
        return template

    def _unanswered(self, seconds: float) -> bool:
        """Whether workers are asked for, and none was forked for that long."""
        return bool(self._starting) and time.monotonic() > self._asked_at + seconds

    def _replace_template(self) -> None:
        """Kill a template that worked and does so no more; ``wait`` tells of its workers."""
        if self._template is not None and self._template.worked:
            signal.pidfd_send_signal(self._template.pidfd, signal.SIGKILL)

    def wait(self, timeout: float | None) -> Sequence[Death]:
        return self.handle(self.poll(timeout))

    def poll(self, timeout: float | None) -> Events:
        """The sleep of ``wait`` by itself: changes nothing, so it may be interrupted anywhere."""
        return self._watch.sleep(timeout)

    def handle(self, events: Events) -> Sequence[Death]:
        """The other part of ``wait``: answer workers, note deaths. A Ctrl-C comes after it."""
        deaths: Sequence[Death] = ()
        if any(fd != self._space.wake_fd for fd, _ in events):
            with Undisturbed():  # a message that was received is taken note of, too
                deaths = self._take_in(events)
        elif events:
            self._watch.take_wake()
        # Not while a worker lives, which would die with it, in the middle of a task perhaps.
        if not self._pidfds and self._unanswered(_ANSWER_TIMEOUT_S):
            self._replace_template()
        forked = self.start is not None and self.start.method == "fork"
        if forked and self._unanswered(START_TIMEOUT_S):
            raise WorkerInitError(
                f"{len(self._starting)} of {self._setup.num_workers} workers were not forked "
                f"within {START_TIMEOUT_S:g} s. If the parent runs threads, one may have held "
                "a lock when it was forked: create the mapper before the threads, or use "
                "start_method='spawn'"
            )
        return deaths

    def _take_in(self, events: Events) -> Sequence[Death]:
        deaths: list[Death] = []
        for fd, _ in events:
            if fd == self._space.wake_fd:
                self._watch.take_wake()
            elif self._template is not None and fd == self._template.control.fileno():
                self._hear_template()
            elif self._template is not None and fd == self._template.pidfd:
                deaths += self._lose_template()
            elif fd in self._slots_by_fd:
                self._serve_channel(self._slots_by_fd[fd])
            else:
                for death in self._bury(fd):
                    self._early_deaths.note(f"worker {death.slot}", death)
                    deaths.append(death)
        return deaths

    def _hear_template(self) -> bool:
        """Take in one message; False: there is none, or the template is gone."""
        assert self._template is not None
        try:
            message = receive(self._template.control, wait=False)
        except OSError:
            # It may have brought a worker's pidfd, and a worker that cannot be watched must not
            # run. All are gone before anybody hears of this.
            signal.pidfd_send_signal(self._template.pidfd, signal.SIGKILL)
            self._lose_template()
            raise
        if message is None:
            return False
        if message.kind == Kind.SPAWNED:
            assert message.fd is not None
            self._hire(message.first, message.fd)
        elif message.kind == Kind.EXITED:
            self._statuses[message.first] = message.second
        elif message.kind == Kind.UNSAFE:
            self._lazy = True
        elif message.kind == Kind.REFUSED:
            reason = message.body.decode(errors="replace")
            self._starting.discard(message.first)
            kind: type[RingwalkError] = WorkerInitError
            if reason.startswith("will not fork"):
                kind = CudaInParentError if "CUDA" in reason else GpuInParentError
            raise kind(f"the template process could not fork worker {message.first}: {reason}")
        return True

    def _hire(self, slot: int, pidfd: int) -> None:
        self._pidfds[slot] = pidfd
        self._starting.discard(slot)
        self._asked_at = time.monotonic()
        self._watch.add(pidfd)

    def _serve_channel(self, slot: int) -> None:
        channel = self._channels[slot][0]
        message = receive(channel, wait=False)
        if message is None:
            return
        if message.kind == Kind.READY:
            self._welcome(slot, message.fd)
        elif message.kind == Kind.WANT:
            answer = Message(Kind.HAVE, message.first, fd=self._find_block(message.first))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                send(channel, answer)  # a worker that died meanwhile is buried by its pidfd
        elif message.kind == Kind.INIT_FAILED:
            failure: Failure = pickle.loads(message.body)
            cause = failure.to_error(slot).__cause__
            raise WorkerInitError(
                f"worker_init raised in worker {slot}: {failure.type_name}: {failure.text}"
            ) from cause

    def _welcome(self, slot: int, leash: int | None) -> None:
        self._ready.add(slot)
        if leash is not None:
            self._leashes[slot] = leash
        if self._template is not None:
            self._template.worked = True

    def _bury(self, pidfd: int) -> list[Death]:
        slot = next((slot for slot, fd in self._pidfds.items() if fd == pidfd), None)
        if slot is None:
            return []
        # The template reaps it at once; if the template is gone, nobody can tell the status.
        deadline = time.monotonic() + 1.0
        while slot not in self._statuses and time.monotonic() < deadline:
            template = self._template
            if template is None or not _readable(template.control, deadline):
                break
            if not self._hear_template():  # it is gone, too
                break
        status = self._statuses.pop(slot, signal.SIGKILL)
        self._drain(slot)
        if slot in self._leashes:
            wait_for_leash(self._leashes.pop(slot), slot)
            of_task = self._space.board.child_status(slot)
            status = status if of_task is None else of_task
            self._space.board.set_child_status(slot, None)
        death = Death.from_status(slot, status, was_ready=slot in self._ready)
        self._drop(slot)
        return [death]

    def _drop(self, slot: int) -> None:
        pidfd = self._pidfds.pop(slot)
        self._watch.remove(pidfd)
        os.close(pidfd)
        self._ready.discard(slot)

    def _drain(self, slot: int) -> None:
        """Forget what passed between the dead worker and us; its successor has the same ends."""
        for end in self._channels[slot]:
            while (message := receive(end, wait=False)) is not None:
                if message.kind == Kind.READY:
                    self._welcome(slot, message.fd)
                elif message.fd is not None:
                    os.close(message.fd)

    def _lose_template(self) -> list[Death]:
        """The template died: the kernel kills its workers, and the next ``fill`` makes another."""
        assert self._template is not None
        death = Death(-1, None, signal.SIGKILL, was_ready=self._template.worked)
        with contextlib.suppress(OSError):  # no room for a descriptor: the leash tells as well
            while (message := receive(self._template.control, wait=False)) is not None:
                if message.kind == Kind.SPAWNED and message.fd is not None:
                    self._hire(message.first, message.fd)
        # The kernel kills its workers, also one that it had no time to tell us of. A successor in
        # the same slot must not start before: both would write to one heap.
        if not _readable(self._template.leash, time.monotonic() + _CLOSE_TIMEOUT_S):
            raise RingwalkError(
                "the template process died, but a worker of it, or a process that a segment "
                "forked, lives on and may write to its tasks' memory: a segment must not leave "
                "forked processes behind (started programs are fine)"
            )
        self._forget_template()
        deaths = []
        for pidfd in list(self._pidfds.values()):
            deaths += self._bury(pidfd)
        # Workers it was to start, or started without being able to tell us: the kernel kills them.
        for slot in self._starting:
            self._drain(slot)
            self._ready.discard(slot)
            deaths.append(Death(slot, None, signal.SIGKILL, was_ready=False))
        self._starting = set()
        # Last: what it raises must not keep the next map from starting another template.
        self._early_deaths.note("the template process", death)
        return deaths

    def _forget_template(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            self._watch.remove(template.control.fileno())
            self._watch.remove(template.pidfd)
            template.reap()
            template.release()

    def pid(self, slot: int) -> int | None:
        return pid_of(self._pidfds[slot]) if slot in self._pidfds else None

    def vacant(self, slot: int) -> bool:
        return slot not in self._pidfds and slot not in self._starting

    def started(self, slot: int) -> bool:
        return slot in self._ready

    def kill(self, slot: int) -> None:
        if slot in self._pidfds:
            with contextlib.suppress(ProcessLookupError):  # dead already: wait() tells
                signal.pidfd_send_signal(self._pidfds[slot], signal.SIGKILL)

    def dismiss(self) -> None:
        """Persistent workers stay."""

    def close(self) -> None:
        try:
            if self._template is not None:
                self._end(self._template)
        finally:
            self.release()

    def _end(self, template: Template) -> None:
        self._space.board.close()
        for slot in self._pidfds:
            with contextlib.suppress(OSError):  # no memory to hear it: it gets its moment to leave
                self._drain(slot)  # who has run a task said before that it is ready
                if slot not in self._ready:
                    self.kill(slot)  # worker_init may take any time
        try:
            send(template.control, Message(Kind.QUIT))
            left = _readable(template.pidfd, time.monotonic() + _QUIT_TIMEOUT_S)
        except OSError:  # it is gone, or there is no memory to ask it
            left = False
        try:
            # Its workers ended before it, or are killed by the kernel when it does.
            for pidfd in (*(() if left else (template.pidfd,)), *self._pidfds.values()):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                _readable(pidfd, time.monotonic() + _CLOSE_TIMEOUT_S)
        finally:
            template.reap()

    def release(self) -> None:
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        for ends in self._channels:
            for end in ends:
                end.close()
        for leash in self._leashes.values():
            os.close(leash)
        self._leashes = {}
        if self._template is not None:
            self._template.release()
        self._template = None
        self._pidfds = {}
        self._channels = []
        self._slots_by_fd = {}
        self._watch.clear()


def _readable(fd: int | socket.socket, deadline: float) -> bool:
    """Wait until a descriptor is readable; a pidfd is when its process has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
