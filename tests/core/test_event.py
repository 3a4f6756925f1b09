"""Event count: no announcement is lost, no waiter's death disturbs the others."""

from __future__ import annotations

import mmap
import os
import signal
import struct
from mmap import PAGESIZE
from types import FrameType
from typing import Any

import pytest

from ringwalk._core.arena import Arena
from ringwalk._core.board import now_ns
from ringwalk._core.event import EventCount


def make() -> tuple[Arena, EventCount]:
    arena = Arena.create(PAGESIZE)
    return arena, EventCount(arena, 0)


def waiters(arena: Arena) -> int:
    """How many the event count believes to be asleep or about to be."""
    with mmap.mmap(arena.fileno(), PAGESIZE) as memory:
        return int(struct.unpack_from("<II", memory)[1])


def test_an_announcement_after_prepare_ends_the_wait_at_once() -> None:
    arena, event = make()
    key = event.prepare()
    event.notify()
    assert event.wait(key) is True
    assert waiters(arena) == 0


def test_an_announcement_before_prepare_does_not() -> None:
    _, event = make()
    event.notify()
    assert event.wait(event.prepare(), now_ns()) is False


def test_a_wait_ends_at_its_deadline() -> None:
    arena, event = make()
    deadline = now_ns() + 2_000_000
    assert event.wait(event.prepare(), deadline) is False
    assert now_ns() >= deadline
    assert waiters(arena) == 0


def test_the_intention_can_be_taken_back() -> None:
    arena, event = make()
    event.prepare()
    assert waiters(arena) == 1
    event.cancel()
    assert waiters(arena) == 0


def test_a_sleeper_is_woken(fork: Any) -> None:
    _, event = make()
    child = fork(lambda: event.wait(event.prepare()))
    child.await_sleep()
    event.notify()
    assert child.join() == 0


def test_as_many_are_woken_as_asked_for(fork: Any, pipe: tuple[int, int]) -> None:
    _, event = make()

    def body(name: bytes) -> None:
        event.wait(event.prepare())
        os.write(pipe[1], name)

    children = [fork(lambda name=name: body(name)) for name in (b"0", b"1", b"2")]
    for child in children:
        child.await_sleep()
    event.notify()
    os.close(pipe[1])
    woken = children.pop(int(os.read(pipe[0], 3)))
    assert woken.join() == 0
    for child in children:
        child.await_sleep()
    event.notify(2)
    assert [child.join() for child in children] == [0, 0]


def test_ping_pong_loses_nothing(fork: Any) -> None:
    arena = Arena.create(PAGESIZE)
    ping, pong = EventCount(arena, 0), EventCount(arena, 64)
    rounds = 500

    def body() -> None:
        key = ping.prepare()
        for _ in range(rounds):
            ping.wait(key)
            key = ping.prepare()
            pong.notify()

    child = fork(body)
    # The child's first prepare must come before our first notify, or it waits for a second one.
    child.await_sleep()
    for _ in range(rounds):
        key = pong.prepare()
        ping.notify()
        pong.wait(key)
    assert child.join() == 0


def test_a_killed_sleeper_is_not_missed(fork: Any) -> None:
    arena, event = make()
    victim, survivor = (fork(lambda: event.wait(event.prepare())) for _ in range(2))
    victim.await_sleep()
    survivor.await_sleep()
    victim.kill()
    assert victim.join() == -signal.SIGKILL
    assert waiters(arena) == 2  # errs upwards: only a system call too many
    event.notify()
    assert survivor.join() == 0
    assert waiters(arena) == 1


def test_a_signal_handler_runs_while_waiting_and_the_wait_goes_on(
    fork: Any, pipe: tuple[int, int]
) -> None:
    _, event = make()

    def body() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: os.write(pipe[1], b"h"))
        assert event.wait(event.prepare()) is True

    child = fork(body)
    child.await_sleep()
    os.close(pipe[1])
    child.kill(signal.SIGUSR1)
    assert os.read(pipe[0], 1) == b"h"
    child.await_sleep()
    event.notify()
    assert child.join() == 0


def test_a_signal_handler_that_raises_ends_the_wait(fork: Any) -> None:
    arena, event = make()

    def handler(signum: int, frame: FrameType | None) -> None:
        raise InterruptedError("stop")

    def body() -> None:
        signal.signal(signal.SIGUSR1, handler)
        with pytest.raises(InterruptedError, match="stop"):
            event.wait(event.prepare())

    child = fork(body)
    child.await_sleep()
    child.kill(signal.SIGUSR1)
    assert child.join() == 0
    assert waiters(arena) == 0
