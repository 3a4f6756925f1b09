"""The template, a quiet process from which a pool's workers are forked, and a worker's life.

It is forked (or spawned) once, at ``init``, and runs no Python: see csrc/template.h. A worker that
dies is replaced by another fork of it, so the user's process, which by then may hold threads, locks
and GPUs, is never forked in the middle of a run::

    parent --fork/spawn once--> template --fork--> worker 0, worker 1, ...
       |                            |
       +--- SPAWN, QUIT ----------->|
       |<-- SPAWNED + pidfd, EXITED-+

Parent dies: the template sees its pidfd, kills the workers and ends; the kernel resumes it for
that if it is stopped. Template dies: the kernel kills the workers (parent-death signal, tied to a
thread that lives as long as they do).
"""

from __future__ import annotations

import gc
import os
import pickle
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from ringwalk._core import process
from ringwalk._core.allocator import serve_numpy
from ringwalk._core.arena import Arena
from ringwalk._core.heap import inherits_views
from ringwalk._core.process import Undisturbed
from ringwalk.errors import GpuInParentError
from ringwalk.workers.bootstrap import (
    exit_code,
    leave,
    limit_threads,
    make_worker,
    prepare_fork,
)
from ringwalk.workers.failure import Failure
from ringwalk.workers.fork_safety import unsafe_threads
from ringwalk.workers.fresh import serve_in_processes
from ringwalk.workers.loop import serve
from ringwalk.workers.messages import Kind, Message, send
from ringwalk.workers.plan import Plan, WorkerSpace
from ringwalk.workers.remote import RemoteJobs
from ringwalk.workers.setup import Setup
from ringwalk.workers.streams import part_from_parent


@dataclass(frozen=True, slots=True)
class Ends:
    """The descriptors that a pool's processes share; each side uses its own."""

    parent_pid: int
    arena: int
    wake: int
    leash: int  # held open by the template and its workers, for the parent to see their end
    control: socket.socket
    workers: tuple[socket.socket, ...]


def become_template(
    load: Callable[[], Setup], plan: Plan, arena: Arena, ends: Ends, *, lazy: bool
) -> NoReturn:
    """The template's whole life in a fresh interpreter.

    What the setup brings may start threads when it is unpickled (an array of jax does), and a
    template with threads is no better than the parent. The parent is told, and starts a lazy one.
    """
    code = 1
    try:
        if not lazy:
            setup = load()
            load = lambda: setup  # noqa: E731
            if unsafe_threads():
                send(ends.control, Message(Kind.UNSAFE))
                leave(code)
        try:
            prepare_fork()
        except GpuInParentError as error:
            send(ends.control, Message(Kind.REFUSED, body=str(error).encode()))
            leave(code)
        with Undisturbed():
            slot = process.become_template(ends.control.fileno(), ends.parent_pid, plan.workers)
            run_worker(load, plan, arena, ends, slot)
    except BaseException:  # nothing may return into multiprocessing's frames
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


def run_worker(
    load: Callable[[], Setup], plan: Plan, arena: Arena, ends: Ends, slot: int
) -> NoReturn:
    """A persistent worker's whole life."""
    code = 1
    try:
        process.reset_signals()
        gc.freeze()  # a collection would copy every page that it marks
        channel = ends.workers[slot]
        try:
            setup = load()
        except Exception as error:  # unpickling runs user code
            refuse(channel, error)
        limit_threads(setup.threads)
        if inherits_views(arena):
            arena = Arena.attach(os.dup(arena.fileno()))
        space = WorkerSpace(plan, arena, ends.wake, slot)
        part_from_parent()
        if setup.fresh:
            serve_in_processes(setup, space, channel, slot)
            leave(0)
        try:
            worker = make_worker(setup, slot)
        except Exception as error:  # worker_init is user code
            refuse(channel, error)
        serve_numpy(space.heaps, space.codec.own)
        send(channel, Message(Kind.READY))
        serve(space, RemoteJobs(setup, space, worker, channel).load)
        code = 0
    except SystemExit as stop:
        code = exit_code(stop.code)
    except BrokenPipeError:  # the parent is gone, and the template ends this process next
        pass
    except BaseException:  # nothing may return into the frames that it was forked from
        sys.excepthook(*sys.exc_info())
    finally:
        leave(code)


def refuse(channel: socket.socket, error: Exception) -> NoReturn:
    """Tell the parent why this worker cannot start, and end."""
    failure = pickle.dumps(Failure.of(error, "segment"))
    send(channel, Message(Kind.INIT_FAILED, body=failure))
    leave(1)
