"""Processes that are forked in every way, and do in every way what their parent must not notice.

    heirs.py each FOLDER            every kind of fork, with each thing that its child may do
    heirs.py soak FOLDER SECONDS SEED   by chance, from other threads, beside deaths

No watchdog of faulthandler here: a child that ends with one waits for a thread that it has not.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from holdings import Holdings, act, set_act  # isort: skip  # before ringwalk

from ringwalk import Executor, TaskMapper, WorkerMapper

Act = Callable[[], None]
_LIBC = ctypes.PyDLL(None)  # keeps the GIL, as a fork must
_FORK = multiprocessing.get_context("fork")


def leave() -> None:
    """End at once."""


set_act(leave)


def _await(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"a child ended with {status}"


def _live(act: Act) -> NoReturn:
    code = 1
    try:
        act()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def by_os_fork() -> None:
    pid = os.fork()
    if pid == 0:
        _live(act)
    _await(pid)


def by_libc() -> None:
    """None of Python's fork hooks runs."""
    # A child that another thread asked for the GIL at its fork would wait for that thread.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    pid = _LIBC.fork()
    if pid == 0:
        _live(act)
    sys.setswitchinterval(interval)
    _await(pid)


def by_multiprocessing() -> None:
    process = _FORK.Process(target=act)
    process.start()
    process.join()
    assert process.exitcode == 0


def by_subprocess() -> None:
    subprocess.run(["true"], check=True, preexec_fn=act)


def by_standard_executor() -> None:
    with ProcessPoolExecutor(1, _FORK) as executor:
        executor.submit(act).result()


def by_second_worker_mapper() -> None:
    with WorkerMapper(act, num_workers=1) as mapper:
        mapper.map([1])


def by_second_task_mapper() -> None:
    with TaskMapper(act, num_workers=1) as mapper:
        mapper.map([1])


def by_second_executor() -> None:
    with Executor(1) as executor:
        executor.submit(act).result()


KINDS: list[Callable[[], None]] = [
    by_os_fork,
    by_libc,
    by_multiprocessing,
    by_subprocess,
    by_standard_executor,
    by_second_worker_mapper,
    by_second_task_mapper,
    by_second_executor,
]


def kill_template(mapper: Any) -> None:
    """The next map forks another one: so Ringwalk itself is one that forks."""
    template = mapper._pool.crew._template
    if template is not None:
        signal.pidfd_send_signal(template.pidfd, signal.SIGKILL)


def try_each(folder: Path) -> None:
    with ExitStack() as stack:
        holdings = Holdings(folder, stack)
        for what in (leave, holdings.drop_all, holdings.close_all):
            set_act(what)
            for fork in KINDS:
                fork()
                kill_template(holdings.worker)
                holdings.use()
                holdings.renew(2)
                wrong = holdings.wrong()
                print(f"{fork.__name__}, {what.__name__}: {wrong} wrong", flush=True)
        # Out of all blocks, and through the exit handlers.
        pid = os.fork()
        if pid == 0:
            raise SystemExit(0)
        _await(pid)
        holdings.use()
        print(f"exit: {holdings.wrong()} wrong", flush=True)
        holdings.finish()


def kill_a_worker(mapper: Any, chance: Random) -> None:
    pids = list(mapper._pool.pids().values())
    if pids:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(pids), signal.SIGKILL)


def soak(folder: Path, seconds: float, seed: int) -> None:
    """Use, keep, check, over and over, while other threads fork all the time."""
    chance = Random(seed)
    over = threading.Event()
    failed: list[BaseException] = []
    with ExitStack() as stack:
        holdings = Holdings(folder, stack, seed)

        def fork_on(kinds: list[Callable[[], None]]) -> None:
            own = Random(chance.random())
            try:
                while not over.wait(own.uniform(0, 0.05)):
                    own.choice(kinds)()
            except BaseException as error:
                failed.append(error)
                raise

        # Not by_libc, whose child hangs in Python where other threads ask for the GIL.
        kinds = [by_os_fork, by_multiprocessing, by_subprocess], [by_multiprocessing, by_os_fork]
        threads = [threading.Thread(target=fork_on, args=(some,)) for some in kinds]
        for thread in threads:
            thread.start()
        turns = wrong = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end and not failed:
            if chance.random() < 0.2:
                kill_template(holdings.worker)
            if chance.random() < 0.3:
                kill_a_worker(holdings.worker, chance)
            holdings.renew(2)
            wrong += holdings.wrong()
            if chance.random() < 0.2:
                holdings.use()
            if chance.random() < 0.1:
                chance.choice(KINDS[4:])()
            turns += 1
        over.set()
        for thread in threads:
            thread.join()
        assert not failed
        holdings.finish()
    print(f"{wrong} wrong in {turns} turns", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "each":
        try_each(Path(sys.argv[2]))
    else:
        soak(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
