"""Segments that write over the pool's shared memory: scribbler.py KIND ROUNDS SEED.

Run as a program of its own: what happens to it is what is tested. Each round is one map in which a
worker flips some bytes of the ring, the board and the heads of the heaps in each task. Whatever
then happens, the map has to return or to raise a RingwalkError, and the mapper to start again.
Prints how many maps came back, and how many raised.
"""

from __future__ import annotations

import ctypes
import random
import sys
from pathlib import Path

import ringwalk
from ringwalk._core.board import board_bytes
from ringwalk.workers.plan import Plan

TASKS, FLIPS, WORKERS = 8, 4, 2


def targets(plan: Plan) -> list[tuple[int, int]]:
    """Offset and length of every control word of a small map in the arena, and some more."""
    tasks = plan.board + board_bytes(plan.workers, 0)
    heaps = [(plan.heap(index), 128 + 16 * 64) for index in range(plan.workers + 1)]
    return [(0, 128 + 32 * 8), (plan.board, tasks - plan.board), (tasks, TASKS * 64), *heaps]


def arena_address() -> int:
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "memfd:ringwalk" in line and "rw-s 00000000" in line:
            return int(line.split("-")[0], 16)
    raise RuntimeError("this process has no arena")


def scribble(task: int, seed: int) -> list[object]:
    chance = random.Random(seed * 1000 + task)
    base = arena_address()
    areas = targets(Plan.for_workers(WORKERS))
    for _ in range(FLIPS):
        offset, length = chance.choice(areas)
        at = ctypes.c_uint8.from_address(base + offset + chance.randrange(length))
        at.value ^= chance.randrange(1, 256)
    return [task, b"x" * chance.randrange(1, 20000)]


def main() -> None:
    kind = getattr(ringwalk, sys.argv[1])
    rounds, seed = int(sys.argv[2]), int(sys.argv[3])
    came_back = raised = 0
    for number in range(rounds):
        with kind(scribble, num_workers=WORKERS, timeout=5) as mapper:
            try:
                mapper.map(range(TASKS), [seed + number] * TASKS)
            except ringwalk.RingwalkError:
                raised += 1
            else:
                came_back += 1
    print(f"came_back={came_back} raised={raised}")


if __name__ == "__main__":
    main()
