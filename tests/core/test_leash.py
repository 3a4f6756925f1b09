"""A leash tells of the end of those that hold it, and nobody else holds it."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator

import pytest

from ringwalk._core import process
from ringwalk._core.leash import let_leash_go, make_leash


@pytest.fixture
def leash() -> Iterator[tuple[int, int]]:
    watched, held = make_leash()
    yield watched, held
    os.close(watched)


def is_loose(watched: int) -> bool:
    return bool(select.select([watched], [], [], 0)[0])


def os_fork(body: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    return pid


def core_fork(body: Callable[[], None]) -> int:
    pid = process.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(0)
    return pid


@pytest.mark.parametrize("make", [os_fork, core_fork])
def test_the_end_of_the_process_that_it_was_made_for(
    make: Callable[[Callable[[], None]], int], leash: tuple[int, int], pipe: tuple[int, int]
) -> None:
    watched, held = leash
    source, end = pipe
    pid = make(lambda: os.read(source, 1) and None)
    let_leash_go(held)
    assert not is_loose(watched)
    os.write(end, b"x")
    os.waitpid(pid, 0)
    assert is_loose(watched)


@pytest.mark.parametrize("make", [os_fork, core_fork])
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads, from 3.12 on
def test_what_another_thread_forks_does_not_hold_it(
    make: Callable[[Callable[[], None]], int], leash: tuple[int, int], pipe: tuple[int, int]
) -> None:
    watched, held = leash
    (source, end), pids = pipe, []
    thread = threading.Thread(target=lambda: pids.append(make(lambda: os.read(source, 1) and None)))
    thread.start()
    thread.join()
    let_leash_go(held)
    assert select.select([watched], [], [], 60)[0]  # closed in the child's first moments
    os.write(end, b"x")
    os.waitpid(pids[0], 0)


def test_a_template_of_another_thread_does_not_hold_it(leash: tuple[int, int]) -> None:
    from ringwalk import WorkerMapper

    watched, held = leash
    mapper = WorkerMapper(abs, num_workers=1)
    thread = threading.Thread(target=mapper.init)
    thread.start()
    thread.join()
    let_leash_go(held)
    assert select.select([watched], [], [], 60)[0]
    assert mapper.map([-1]) == [1]
    mapper.cleanup()
