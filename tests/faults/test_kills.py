"""SIGKILL of random templates, workers, lanes and children at random instants.

Every map must come back complete and correct: nothing lost, nothing twice, nothing torn, no hang
(the watchdog), no leak (the fixture).
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import Mapper, Row, TaskMapper, WalkerBlock, WorkerMapper

KILLER = Path(__file__).with_name("killer.py")
WALKERS = 32
Rounds = Callable[[int, int], int]


@contextmanager
def killer(kills: int, seed: int, mean_ms: int) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(number) for number in (os.getpid(), kills, seed, mean_ms)]
    with subprocess.Popen(
        [sys.executable, str(KILLER), *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
            assert process.stdout is not None
            assert process.stdout.read() == f"{kills}\n"
        finally:
            process.kill()


def digest(cycle: int, k: int, payload: bytes) -> int:
    return zlib.crc32(payload, cycle * 1000 + k)


def small(k: list[int], cycle: int) -> tuple[int, int, int]:
    payload = bytes([k[0]]) * 500
    return cycle, k[0], digest(cycle, k[0], payload)


def large(k: list[int], cycle: int) -> tuple[int, Any]:
    return cycle, np.full(1 << 19, cycle * 1000.0 + k[0])  # 4 MiB


def advance(row: Row, cycle: int) -> int:
    # Written in two steps with a reading in between: a torn row would show.
    row.state[:500] += 1
    total = float(row.state[500:].sum())
    row.state[500:] += 1
    row.cycle = cycle
    return int(total)


def at_least(mean_ms: int, run_map: Callable[[], object]) -> int:
    """Milliseconds from kill to kill in which a process starts and does a part of a map.

    ``mean_ms`` on a machine with time for us; on one that is busy with something else, where all
    200 kills might come within the first map, an eighth of what a map takes there.
    """
    began = time.monotonic()
    run_map()
    return max(mean_ms, round((time.monotonic() - began) * 1000 / 8))


def kinds_and_means() -> Any:
    return pytest.mark.parametrize(
        ("kind", "mean_ms"), [(WorkerMapper, 20), (TaskMapper, 30)], ids=["worker", "task"]
    )


@kinds_and_means()
def test_small_results(kind: type[Mapper], mean_ms: int, rounds: Rounds) -> None:
    expected = [(0, k, digest(0, k, bytes([k]) * 500)) for k in range(WALKERS)]
    with kind(small, num_workers=2, max_retries=255) as mapper:
        mean_ms = at_least(mean_ms, lambda: mapper.map([[0]] * WALKERS, [0] * WALKERS))
        with killer(rounds(200, 4000), 1, mean_ms) as process:
            for cycle in itertools.count():
                results = mapper.map([[k] for k in range(WALKERS)], [cycle] * WALKERS)
                expected = [(cycle, k, digest(cycle, k, bytes([k]) * 500)) for k in range(WALKERS)]
                assert results == expected
                if process.poll() is not None:
                    break
        assert cycle > 1


@kinds_and_means()
def test_large_results(kind: type[Mapper], mean_ms: int, rounds: Rounds) -> None:
    with kind(large, num_workers=2, max_retries=255) as mapper:
        with killer(rounds(100, 3000), 2, mean_ms) as process:
            for cycle in itertools.count():
                results = mapper.map([[k] for k in range(8)], [cycle] * 8)
                for k, (told, array) in enumerate(results):
                    assert told == cycle
                    assert array.shape == (1 << 19,)
                    assert array[0] == array[-1] == cycle * 1000.0 + k
                    assert array.min() == array.max()
                del results, array
                if process.poll() is not None:
                    break

        mapper.map([[0]], [0])  # settles the deaths since the last map
        heaps = mapper._pool.space.heaps  # type: ignore[attr-defined]
        # A template forked anew, in the middle of a map, may use what the parent had then.
        pinned = 8 if kind is WorkerMapper else 0
        assert sum(heap.usage()["held_blocks"] for heap in heaps) <= pinned
        # One worker may have made all 8 results of 4 MiB that are alive at once, beside those that
        # are pinned; with what dead attempts left, which serves again, there is no more.
        committed = [heap.usage()["committed_bytes"] >> 22 for heap in heaps]
        assert max(committed) <= 12 + pinned


@kinds_and_means()
def test_rows_of_a_block(kind: type[Mapper], mean_ms: int, rounds: Rounds) -> None:
    with (
        WalkerBlock(WALKERS, state=((1000,), "f8"), cycle="i8") as block,
        kind(advance, num_workers=2, max_retries=255) as mapper,
        killer(
            rounds(200, 3000), 3, at_least(mean_ms, lambda: mapper.map(block, [1] * WALKERS))
        ) as process,
    ):
        for cycle in itertools.count(2):
            totals = mapper.map(block, [cycle] * WALKERS)
            assert totals == [500 * (cycle - 1)] * WALKERS
            assert (block["state"] == cycle).all()
            assert (block["cycle"] == cycle).all()
            if process.poll() is not None:
                break
        assert cycle > 2
