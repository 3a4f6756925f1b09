"""Ring: in order, each number once, whatever becomes of its users."""

from __future__ import annotations

import mmap
import os
import select
import struct
from collections import deque
from mmap import PAGESIZE
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ringwalk._core.arena import Arena
from ringwalk._core.ring import Ring, ring_bytes
from ringwalk.errors import RingwalkError

HEAD, TAIL = 0, 64  # places of the two words
NUMBERS = st.integers(0, 2**64 - 1)


def scribble(arena: Arena, place: int, value: int) -> None:
    with mmap.mmap(arena.fileno(), PAGESIZE) as memory:
        struct.pack_into("<Q", memory, place, value)


@pytest.mark.parametrize("capacity", [0, 3, 6, 1000])
def test_a_capacity_is_a_power_of_two(capacity: int) -> None:
    arena = Arena.create(PAGESIZE)
    with pytest.raises(ValueError, match=f"not {capacity}"):
        Ring(arena, 0, capacity)


def test_numbers_come_out_in_order() -> None:
    arena = Arena.create(PAGESIZE)
    ring = Ring(arena, 0, 8)
    assert ring.capacity == 8
    assert ring.push([3, 1, 2**64 - 1]) == 3
    assert len(ring) == 3
    assert [ring.pop(), ring.pop(), ring.pop(), ring.pop()] == [3, 1, 2**64 - 1, None]


def test_what_does_not_fit_stays_with_the_caller() -> None:
    arena = Arena.create(PAGESIZE)
    ring = Ring(arena, 0, 4)
    assert ring.push(range(3)) == 3
    assert ring.push(range(3, 9)) == 1
    assert ring.push([9]) == 0
    assert [ring.pop() for _ in range(5)] == [0, 1, 2, 3, None]


@pytest.mark.parametrize("bad", [-1, 2**64, "1"])
def test_a_refused_number_leaves_nothing(bad: Any) -> None:
    arena = Arena.create(PAGESIZE)
    ring = Ring(arena, 0, 4)
    with pytest.raises((OverflowError, TypeError)):
        ring.push([1, 2, bad])
    assert ring.pop() is None


def test_counts_may_pass_the_last_integer() -> None:
    arena = Arena.create(PAGESIZE)
    ring = Ring(arena, 0, 4)
    for place in (HEAD, TAIL):
        scribble(arena, place, 2**64 - 2)
    for lap in range(4):
        assert ring.push([lap, lap + 10]) == 2
        assert len(ring) == 2
        assert (ring.pop(), ring.pop(), ring.pop()) == (lap, lap + 10, None)


@pytest.mark.parametrize(("head", "tail"), [(5, 0), (0, 5), (2**63, 0)])
def test_scribbled_counts_are_an_error(head: int, tail: int) -> None:
    arena = Arena.create(PAGESIZE)
    ring = Ring(arena, 0, 4)
    scribble(arena, HEAD, head)
    scribble(arena, TAIL, tail)
    with pytest.raises(RingwalkError, match="no correct process writes"):
        ring.pop()
    with pytest.raises(RingwalkError, match="no correct process writes"):
        ring.push([1])
    assert len(ring) <= 4


class RingMachine(RuleBasedStateMachine):
    """One producer, consumers with handles of their own, against a deque."""

    @initialize(capacity=st.sampled_from([1, 2, 8]))
    def make(self, capacity: int) -> None:
        arena = Arena.create(ring_bytes(capacity))
        self.producer = Ring(arena, 0, capacity)
        self.consumers = [
            Ring(arena, 0, capacity),
            Ring(Arena.attach(os.dup(arena.fileno())), 0, capacity),
        ]
        self.model: deque[int] = deque()

    @rule(numbers=st.lists(NUMBERS, max_size=12))
    def push(self, numbers: list[int]) -> None:
        room = self.producer.capacity - len(self.model)
        assert self.producer.push(numbers) == min(room, len(numbers))
        self.model.extend(numbers[:room])

    @rule(who=st.integers(0, 1))
    def pop(self, who: int) -> None:
        expected = self.model.popleft() if self.model else None
        assert self.consumers[who].pop() == expected

    @invariant()
    def length(self) -> None:
        for ring in (self.producer, *self.consumers):
            assert len(ring) == len(self.model)


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=60, stateful_step_count=40)


@pytest.mark.slow
def test_consumers_share_the_numbers_and_a_killed_one_takes_at_most_one_along(fork: Any) -> None:
    arena = Arena.create(PAGESIZE)
    ring = Ring(arena, 0, 64)
    count, over = 6000, 2**64 - 1
    pipes = [os.pipe() for _ in range(4)]

    def consume(output: int) -> None:
        while True:
            number = ring.pop()
            if number is None:
                os.sched_yield()
            elif number == over:
                return
            else:
                os.write(output, struct.pack("<Q", number))

    def drain(fd: int) -> list[int]:
        data = b""
        while len(data) % 8 or _readable(fd):
            data += os.read(fd, 1 << 16)
        return [number for (number,) in struct.iter_unpack("<Q", data)]

    consumers = [fork(lambda end=end: consume(end)) for _, end in pipes]
    got: list[int] = []
    victims = [2 * count // 4, 3 * count // 4]
    pushed = 0
    while pushed < count:
        pushed += ring.push(range(pushed, min(pushed + 16, count)))
        if victims and pushed >= victims[0]:
            consumers[len(victims)].kill()
            assert consumers[len(victims)].join() == -9
            victims.pop(0)
        for source, _ in pipes:
            got += drain(source)
    for _ in range(2):  # one by one: a full ring takes the first of two, and asked again both
        while not ring.push([over]):
            os.sched_yield()
    for child in (consumers[0], consumers[3]):
        while not _ended(child):
            for source, _ in pipes:
                got += drain(source)
        assert child.join() == 0
    for source, end in pipes:
        got += drain(source)
        os.close(source)
        os.close(end)
    assert len(got) == len(set(got))
    assert count - 2 <= len(got) <= count
    assert ring.pop() is None


def _readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def _ended(child: Any) -> bool:
    os.sched_yield()
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
