"""A worker of a clean template that forks a process for each task.

It is what a lane is to a ``TaskMapper`` that forks the user's process, where that must not be
forked: it runs no code of the user itself, and so has no threads. Arguments come as they do to a
persistent worker; each child loads them::

    template --fork--> worker 0 --fork--> child: one task, commit, exit

A child that dies without a commit takes its worker along, see ``lanes``. Worker and child hold the
write end of a leash; the parent gets the other with READY.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
from typing import NoReturn

from ringwalk._core.board import RUNNING
from ringwalk._core.leash import make_leash
from ringwalk._core.process import die_with_parent, fork
from ringwalk.errors import RingwalkError
from ringwalk.workers.bootstrap import exit_code, leave, make_worker, patiently
from ringwalk.workers.failure import Stage
from ringwalk.workers.loop import Publisher, run_task
from ringwalk.workers.messages import Kind, Message, send
from ringwalk.workers.plan import WorkerSpace
from ringwalk.workers.remote import RemoteJobs
from ringwalk.workers.setup import Setup
from ringwalk.workers.streams import part_from_parent

_GONE_TIMEOUT_S = 10.0


def serve_in_processes(setup: Setup, space: WorkerSpace, channel: socket.socket, slot: int) -> None:
    """Run each task in a process of its own until the pool closes."""
    space.codec.names = False  # a view that a task may have written is its own
    publish = Publisher(space)
    board, own = space.board, space.codec.own
    board.set_child_status(slot, None)
    ours, _ = make_leash()  # the other end stays open until this process and its child are gone
    send(channel, Message(Kind.READY, fd=ours))
    os.close(ours)
    worker = os.getpid()
    while (task := space.consumer.take()) >= 0:
        part_from_parent()
        try:
            pid = patiently(fork)
        except OSError as error:  # process or memory limit: the task's error, not the worker's
            publish.failure(task, error, "start")
            continue
        if pid == 0:
            for heap in space.heaps:  # the worker waits until the child is gone
                heap.adopt()
            _run_child(setup, space, publish, channel, task, slot, worker)
        _, status = os.waitpid(pid, 0)
        own.refresh()
        for heap in space.heaps:
            if heap is not own:  # of arguments that the child had views of
                heap.forget(slot + 1)
        # Killed after its commit, it may have died before it woke the parent: our death does.
        if os.WIFSIGNALED(status) or board.state(task)[0] == RUNNING:
            board.set_child_status(slot, status)
            leave(1)


def _run_child(
    setup: Setup,
    space: WorkerSpace,
    publish: Publisher,
    channel: socket.socket,
    task: int,
    slot: int,
    worker: int,
) -> NoReturn:
    code = 1
    try:
        if not die_with_parent(worker):
            leave(code)
        gc.freeze()
        stage: Stage = "start"
        try:
            own = make_worker(setup, slot)
            stage = "argument"
            call, mark = RemoteJobs(setup, space, own, channel).load()
        except Exception as error:  # worker_init and unpickling are user code
            publish.failure(task, error, stage)
        else:
            run_task(publish, task, call, mark)
        code = 0
    except SystemExit as stop:
        code = exit_code(stop.code)
    except BaseException:  # nothing may return into the worker's frames
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


def wait_for_leash(leash: int, slot: int) -> None:
    """Wait until a worker that died and its task's process are both gone. Closes the leash."""
    gone = select.poll()
    gone.register(leash, select.POLLIN)
    try:
        ended = gone.poll(_GONE_TIMEOUT_S * 1000)
    finally:
        os.close(leash)
    if not ended:
        raise RingwalkError(
            f"worker {slot} died, but a process that its task started lives on and may write to "
            "the task's memory: a segment must not leave forked processes behind (started "
            "programs are fine)"
        )
