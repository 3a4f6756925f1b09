"""Results that a forked process inherits are its own, and stay as they were at the fork."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringwalk import Mapper, TaskMapper, WorkerMapper
from ringwalk.memory import inherited

Array = np.ndarray[Any, Any]
LENGTH = 200_000
WALKERS = 4


def segment(k: int) -> Array:
    return np.full(LENGTH, k, "u1")


def are_right(results: list[Array]) -> bool:
    return all(np.array_equal(result, segment(k)) for k, result in enumerate(results))


def map_over(mapper: Mapper) -> None:
    """Have every block that is free used again."""
    for first in range(WALKERS, 5 * WALKERS, WALKERS):
        mapper.map(range(first, first + WALKERS))


class Heir:
    """A forked process that waits for its turn, then says whether what it inherited is right."""

    def __init__(self, check: Callable[[], bool]) -> None:
        self._go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self._go[1])
                os.read(self._go[0], 1)
                code = 0 if check() else 1
            finally:
                os._exit(code)

    def is_content(self) -> bool:
        for end in self._go:
            os.close(end)
        return os.waitpid(self.pid, 0)[1] == 0


def held(mapper: Any) -> int:
    return sum(heap.usage()["held_blocks"] for heap in mapper._pool.space.heaps)


@pytest.fixture
def mapper(process_mapper: type[Mapper]) -> Iterator[Mapper]:
    with process_mapper(segment, num_workers=1) as mapper:
        yield mapper


def test_a_child_keeps_what_its_parent_drops(mapper: Mapper) -> None:
    results = mapper.map(range(WALKERS))
    heir = Heir(lambda: are_right(results))
    results.clear()
    map_over(mapper)
    assert held(mapper) >= WALKERS
    assert heir.is_content()
    mapper.map(range(1))
    assert held(mapper) == 0


def test_grandchildren_keep_it_too(mapper: Mapper) -> None:
    results = mapper.map(range(WALKERS))
    grandchild: list[Heir] = []

    def fork_on() -> bool:
        grandchild.append(Heir(lambda: are_right(results)))
        results.clear()
        return grandchild[0].is_content()

    heir = Heir(fork_on)
    results.clear()
    map_over(mapper)
    assert heir.is_content()


def test_what_a_child_writes_its_parent_does_not_see(mapper: Mapper) -> None:
    results = mapper.map(range(WALKERS))

    def write() -> bool:
        for result in results:
            result[:] = 99
        return all((result == 99).all() for result in results)

    assert Heir(write).is_content()
    assert are_right(results)


def test_a_process_that_became_another_program_holds_nothing(mapper: Mapper) -> None:
    results = mapper.map(range(WALKERS))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, preexec_fn=int) as program:
        results.clear()
        mapper.map(range(1))
        assert held(mapper) == 0
        program.kill()


def check_results(results: list[Array], go: Any) -> None:
    assert go.wait(60)
    sys.exit(0 if are_right(results) else 1)


def test_a_process_of_multiprocessing_gets_results_as_arguments(mapper: Mapper) -> None:
    context = multiprocessing.get_context("fork")
    go = context.Event()
    results = mapper.map(range(WALKERS))
    process = context.Process(target=check_results, args=(results, go))
    process.start()
    results.clear()
    map_over(mapper)
    go.set()
    process.join()
    assert process.exitcode == 0


def test_without_descriptors_results_are_held_for_good(mapper: Mapper) -> None:
    def refuse() -> tuple[int, int]:
        raise OSError("no descriptor")

    results = mapper.map(range(WALKERS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inherited, "make_leash", refuse)
        heir = Heir(lambda: are_right(results))
    results.clear()
    map_over(mapper)
    assert heir.is_content()
    (kept,) = [heirs for heirs in inherited._living if heirs.leash is None]
    assert len(kept.held[0][1]) == WALKERS
    inherited._living.remove(kept)


KEPT: list[Array] = []


def change_kept(k: int) -> Array:
    """Writes into a result that the process inherited, and returns that."""
    if not KEPT:
        return segment(k)
    KEPT[k][:] += 100
    return KEPT[k]


def kill_template(mapper: Any) -> None:
    template = mapper._pool.crew._template
    signal.pidfd_send_signal(template.pidfd, signal.SIGKILL)
    select.select([template.leash], [], [])  # until its workers are dead, too


def test_workers_of_a_new_template_have_their_own_of_old_results() -> None:
    try:
        with WorkerMapper(change_kept, num_workers=1) as mapper:
            KEPT.extend(mapper.map(range(WALKERS)))
            kill_template(mapper)
            changed = mapper.map(range(WALKERS))
            assert [int(result[-1]) for result in changed] == [100 + k for k in range(WALKERS)]
            assert are_right(KEPT)
    finally:
        KEPT.clear()


def test_tasks_have_their_own_of_old_results() -> None:
    try:
        with TaskMapper(change_kept, num_workers=1) as mapper:
            KEPT.extend(mapper.map(range(WALKERS)))
            changed = mapper.map(range(WALKERS))
            assert [int(result[-1]) for result in changed] == [100 + k for k in range(WALKERS)]
            assert are_right(KEPT)
    finally:
        KEPT.clear()


def nested(k: int) -> int:
    """Writes into an inherited result, then has a mapper of its own use it."""
    KEPT[k][:] += 100
    with TaskMapper(lambda i: int(KEPT[k][i]), num_workers=1) as mapper:
        return sum(mapper.map(range(2)))


def test_a_mapper_in_a_task_sees_what_the_task_wrote() -> None:
    try:
        with TaskMapper(segment, num_workers=1) as mapper:
            KEPT.extend(mapper.map(range(WALKERS)))
        with TaskMapper(nested, num_workers=1) as mapper:
            assert mapper.map(range(WALKERS)) == [2 * (100 + k) for k in range(WALKERS)]
    finally:
        KEPT.clear()


def fork_in_segment(k: int, folder: str) -> Array:
    """Leaves a process behind that has the segment's array, and looks at it later."""
    array = segment(k)
    heir = Heir(lambda: np.array_equal(array, segment(k)))
    array[:] = 0
    Path(folder, str(k)).write_text("right" if heir.is_content() else "wrong")
    return array


def test_what_a_segment_forks_keeps_the_segments_arrays(
    process_mapper: type[Mapper], tmp_path: Path
) -> None:
    with process_mapper(fork_in_segment, num_workers=1) as mapper:
        mapper.map(range(3), [str(tmp_path)] * 3)
    assert [(tmp_path / str(k)).read_text() for k in range(3)] == ["right"] * 3
