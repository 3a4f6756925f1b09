"""The crew of a TaskMapper: lanes, forked from the parent at ``map``, that fork a child a task.

A lane has everything that the parent had when ``map`` was called, so a task's inputs cost
nothing to hand over: they are copy-on-write::

    parent --fork at map--> lane 0 --fork--> child: one task, one commit, exit
                            lane 1 --fork--> child ...

A lane claims a task, forks the child, reaps it, claims the next. A child that dies without a
commit takes its lane along (which says what the child died of), because what the child had
allocated is only known to be free once nobody of that slot is left. Lane and child hold the
write end of a pipe, the leash: when the parent reads its end, all of them are dead.

Parent dies: the kernel kills lanes and, through them, children (parent-death signals). The signal
is tied to the thread that called ``map``; it is inside that call for as long as lanes live.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from ringwalk._core.board import RUNNING, SLOT_READY
from ringwalk._core.heap import part_views
from ringwalk._core.leash import let_leash_go, make_leash
from ringwalk._core.process import (
    Undisturbed,
    die_with_parent,
    fork,
    prefer_as_victim,
    reset_signals,
)
from ringwalk.errors import RingwalkError, WorkerInitError
from ringwalk.memory.codec import Codec
from ringwalk.workers.bootstrap import (
    exit_code,
    fork_watched,
    leave,
    limit_threads,
    make_worker,
    patiently,
    prepare_fork,
)
from ringwalk.workers.crew import Death, EarlyDeaths
from ringwalk.workers.job import (
    Getter,
    Indexed,
    Job,
    Marker,
    NoSources,
    make_call,
    make_marker,
)
from ringwalk.workers.loop import Publisher, run_task
from ringwalk.workers.native_threads import OtherThreads
from ringwalk.workers.openmp import release_openmp_threads
from ringwalk.workers.plan import WorkerSpace, Workspace
from ringwalk.workers.setup import Setup
from ringwalk.workers.streams import part_from_parent
from ringwalk.workers.stuck import StuckWatch
from ringwalk.workers.unshared import unshared
from ringwalk.workers.watch import Watch

START_TIMEOUT_S = 30.0
_LEAVE_TIMEOUT_S = 1.0  # a lane that has nothing more to do leaves within milliseconds
_GONE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Lane:
    pid: int
    pidfd: int
    leash: int
    forked_at: float


class LaneCrew:
    """Parent's side of the lanes of one mapper; they live from ``fill`` to ``dismiss``."""

    def __init__(self, setup: Setup, space: Workspace) -> None:
        self._setup = setup
        self._space = space
        self._lanes: dict[int, _Lane] = {}  # slot -> lane
        self._slots_by_fd: dict[int, int] = {}
        self._job: Job | None = None
        self._early_deaths = EarlyDeaths()
        self._watch = Watch(space.wake_fd)
        self.stuck = StuckWatch(space.board, setup.num_workers)
        self.beside = OtherThreads()

    def fill(self, job: Job | None) -> None:
        self._job = job
        self._space.board.reopen()
        for slot in range(self._setup.num_workers):
            self.restart(slot)

    def restart(self, slot: int) -> None:
        job = self._job
        assert job is not None
        board = self._space.board
        board.set_phase(slot, 0)
        board.set_child_status(slot, None)
        prepare_fork()
        self.beside = OtherThreads.now()
        parent = os.getpid()
        with Undisturbed():  # a Ctrl-C would leave a lane that nobody knows of
            leash, theirs = make_leash()

            def life() -> NoReturn:
                os.close(leash)
                run_lane(self._setup, self._space, job, slot, parent)

            try:
                pid, pidfd = fork_watched(life)
            except BaseException:
                let_leash_go(theirs)
                _let_go(leash)
                raise
            let_leash_go(theirs)
            self._lanes[slot] = _Lane(pid, pidfd, leash, time.monotonic())
            self._slots_by_fd[pidfd] = slot
            self._watch.add(pidfd)

    def wait(self, timeout: float | None) -> Sequence[Death]:
        events = self._watch.sleep(timeout)
        deaths = [self._bury(self._slots_by_fd[fd]) for fd, _ in events if fd in self._slots_by_fd]
        if len(events) > len(deaths):
            self._watch.take_wake()
        self._check_started()
        for death in deaths:
            self._early_deaths.note(f"lane {death.slot}", death)
        return deaths

    def _check_started(self) -> None:
        late = time.monotonic() - START_TIMEOUT_S
        for slot, lane in self._lanes.items():
            if lane.forked_at < late and self._space.board.phase(slot) != SLOT_READY:
                raise WorkerInitError(
                    f"lane {slot} hangs since it was forked {START_TIMEOUT_S:g} s ago: a thread "
                    "of this process held a lock (BLAS, OpenMP, logging, malloc) at that instant. "
                    "Stop such threads before map, or use WorkerMapper, created before them"
                )

    def _bury(self, slot: int) -> Death:
        with Undisturbed():  # a Ctrl-C would leave its leash, or a child at the other end
            lane = self._lanes.pop(slot)
            self._watch.remove(lane.pidfd)
            del self._slots_by_fd[lane.pidfd]
            os.close(lane.pidfd)
            status = signal.SIGKILL.value
            # A SIGCHLD handler of the user's program may have reaped it.
            with contextlib.suppress(ChildProcessError):
                _, status = os.waitpid(lane.pid, 0)
            child_status = self._space.board.child_status(slot)
            gone = _let_go(lane.leash)
        if not gone:
            raise RingwalkError(
                f"lane {slot} (pid {lane.pid}) died, but a process that its task started lives "
                "on and may write to the task's memory: a segment must not leave forked "
                "processes behind (started programs are fine)"
            )
        was_ready = self._space.board.phase(slot) == SLOT_READY
        died_of = status if child_status is None else child_status
        return Death.from_status(slot, died_of, was_ready=was_ready)

    def pid(self, slot: int) -> int | None:
        return self._lanes[slot].pid if slot in self._lanes else None

    def vacant(self, slot: int) -> bool:
        return slot not in self._lanes

    def started(self, slot: int) -> bool:
        return slot in self._lanes and self._space.board.phase(slot) == SLOT_READY

    def kill(self, slot: int) -> None:
        if slot in self._lanes:
            with contextlib.suppress(ProcessLookupError):  # dead, and reaped by the user's program
                signal.pidfd_send_signal(self._lanes[slot].pidfd, signal.SIGKILL)

    def dismiss(self) -> None:
        self._space.board.close()
        with contextlib.ExitStack() as all_of_it:  # whatever one of them raises
            all_of_it.callback(self._forget_job)
            for slot in self._lanes:
                all_of_it.callback(self._see_off, slot)

    def _see_off(self, slot: int) -> None:
        ended = select.poll()
        ended.register(self._lanes[slot].pidfd, select.POLLIN)
        left = False
        with contextlib.suppress(OSError):  # no memory to wait politely
            left = bool(ended.poll(_LEAVE_TIMEOUT_S * 1000))
        if not left:
            self.kill(slot)
        self._bury(slot)
        self._space.forget(slot)

    def _forget_job(self) -> None:
        self._job = None

    def close(self) -> None:
        for slot in list(self._lanes):
            self.kill(slot)
        self.dismiss()

    def release(self) -> None:
        for lane in self._lanes.values():
            os.close(lane.pidfd)
            os.close(lane.leash)
        self._lanes = {}


def _let_go(leash: int) -> bool:
    """Wait until nobody holds the other end of a leash, then close it; False: somebody still does.

    Its processes are dead, or about to be.
    """
    gone = select.poll()
    gone.register(leash, select.POLLIN)
    try:
        return bool(gone.poll(_GONE_TIMEOUT_S * 1000))
    finally:
        os.close(leash)


def run_lane(setup: Setup, inherited: Workspace, job: Job, slot: int, parent: int) -> NoReturn:
    """A lane's whole life."""
    code = 1
    try:
        if not die_with_parent(parent):
            leave(code)
        reset_signals()
        prefer_as_victim()
        limit_threads(setup.threads)
        part_views()  # as the hooks of the fork did, unless they failed, which they do silently
        space = WorkerSpace(inherited.plan, inherited.arena, inherited.wake_fd, slot)
        space.codec.names = False  # a view that a task may have written is its own
        job = unshared(job, setup.inputs)
        board, heap = space.board, space.codec.own
        publish = Publisher(space)
        # What a child need not make itself, it need not copy pages for. A context it must make.
        call = None
        if setup.worker_init is None:
            call = make_call(setup, make_worker(setup, slot), job, NoSources())
            release_openmp_threads()  # of the worker type's constructor
        mark = make_marker(job, NoSources())
        _acquaint(space.codec, job)
        gc.disable()
        gc.freeze()  # a collection in a child would copy every page that it marks
        board.set_phase(slot, SLOT_READY)
        lane = os.getpid()
        while (task := space.consumer.take()) >= 0:
            # Here, where the code's pages are mapped, it takes 60 us; in each new child, 900 us.
            part_from_parent()
            try:
                pid = patiently(fork)
            except OSError as error:  # process or memory limit: the task's error, not the lane's
                publish.failure(task, error, "start")
                continue
            if pid == 0:
                gc.enable()
                for own in space.heaps:  # the lane waits until the child is gone
                    own.adopt()
                run_child(setup, publish, job, task, slot, lane, call, mark)
            _, status = os.waitpid(pid, 0)
            heap.refresh()
            # Killed after its commit, it may have died before it woke the parent: our death does.
            if os.WIFSIGNALED(status) or board.state(task)[0] == RUNNING:
                board.set_child_status(slot, status)
                leave(1)
        code = 0
    except BaseException:  # nothing may return into the parent's frames
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


def _acquaint(codec: Codec, job: Job) -> None:
    """Look at the first walker's arguments, because results mostly are of the same classes."""
    for column in (*job.positional, *job.named.values()):
        if isinstance(column, Indexed) and type(column.values) in (list, tuple):
            # What is wrong with a value, the child that returns one like it reports.
            with contextlib.suppress(Exception):
                codec.acquaint(column.values[job.first])


def run_child(
    setup: Setup,
    publish: Publisher,
    job: Job,
    task: int,
    slot: int,
    lane: int,
    call: Getter | None,
    mark: Marker,
) -> NoReturn:
    """A task process's whole life: one segment."""
    code = 1
    try:
        if not die_with_parent(lane):
            leave(code)
        try:
            if call is None:
                call = make_call(setup, make_worker(setup, slot), job, NoSources())
        except Exception as error:  # worker_init is user code
            publish.failure(task, error, "start")
        else:
            run_task(publish, task, call, mark)
        code = 0
    except SystemExit as stop:
        code = exit_code(stop.code)
    except BaseException:  # nothing may return into the lane's frames
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)
