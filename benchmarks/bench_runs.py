"""What does a run of a parameter study cost? No-op runs by proFit, commands, a growing table."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from benchmarks.contest import WORKERS, AtMost, Contestant, Scenario, Times, mapping, named
from benchmarks.interleave import Timing
from benchmarks.rivals.popen_loop import PopenLoop
from benchmarks.rivals.profit_study import seconds, studies
from benchmarks.scoreboard import Scoreboard
from ringwalk.memory import RunTable, Table
from ringwalk.runners import LocalRunner

RUNS = 500
STUDY_ROUNDS = 5
# A study of ours takes a fraction of a second, of which its start is a third: one alone says little
# about a busy machine. A rival's takes half a minute.
STUDIES_A_ROUND = {"ringwalk": 9, "in one process": 9}
COMMANDS = 50
GROWTH_ROUNDS = 7
FROM_ROWS, TO_ROWS, STEP = 1_000, 1_000_000, 27_000


# --- proFit's runners, in proFit's environment ------------------------------------------------

CONTESTANTS = {
    "ringwalk": ("ringwalk", "ringwalk", 0.1),
    "fork+memmap, sleep 0.1": ("fork", "memmap", 0.1),
    "fork+memmap, sleep 0.001": ("fork", "memmap", 0.001),
    "in one process": ("in process", "ringwalk", 0.0),
}
STUDY = Scenario(
    "a study of no-op runs, proFit 0.6",
    RUNS,
    ours=(named("ringwalk"),),
    rivals=tuple(named(name) for name in CONTESTANTS if name.startswith("fork")),
    floors=(named("in one process"),),
    targets=(Times("fork+memmap, sleep 0.1", 80), Times("fork+memmap, sleep 0.001", 15)),
)


def bench_studies(scoreboard: Scoreboard) -> None:
    turns: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    with studies() as process:
        for runner, interface, sleep in CONTESTANTS.values():
            seconds(process, runner, interface, sleep, 10)
        for number in range(STUDY_ROUNDS):
            names = list(CONTESTANTS)
            for name in names if number % 2 == 0 else reversed(names):
                several = range(STUDIES_A_ROUND.get(name, 1))
                took = [seconds(process, *CONTESTANTS[name], RUNS) for _ in several]
                turns[name].append(float(np.median(took)))
    scoreboard.judge(STUDY, _timings(turns))


# --- a command a run --------------------------------------------------------------------------


@contextmanager
def local_runner() -> Iterator[Callable[[], tuple[LocalRunner, list[int]]]]:
    with (
        RunTable({"u": "f8"}) as table,
        LocalRunner("true", table, parallel=WORKERS) as runner,
    ):

        def run() -> tuple[LocalRunner, list[int]]:
            ids = runner.spawn_array({"u": 1.0} for _ in range(COMMANDS))
            runner.wait_all()
            return runner, ids

        yield run


def check_runner(outcome: tuple[LocalRunner, list[int]]) -> None:
    runner, ids = outcome
    assert len(ids) == COMMANDS
    assert runner.failed == {}


def check_codes(items: Any, codes: list[int]) -> None:
    assert codes == [0] * COMMANDS


COMMAND = Scenario(
    "a shell command a run",
    COMMANDS,
    ours=(Contestant("LocalRunner", local_runner, check_runner),),
    rivals=(
        mapping(
            "Popen/wait loop",
            partial(PopenLoop, "true", WORKERS),
            lambda: range(COMMANDS),
            check_codes,
        ),
    ),
    targets=(Times("Popen/wait loop", 1 / 1.2),),
)


def bench_commands(side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(COMMAND)


# --- growth while others write ----------------------------------------------------------------

GROWTH = tuple(
    Scenario(
        f"writers' longest pause, table of 1e3 rows to 1e6, {what}",
        1,
        ours=(named("growing"),),
        rivals=(named("not growing"),),
        targets=targets,
    )
    for what, targets in (("preemption left out", (AtMost(0.010),)), ("by the clock", ()))
)
PAUSES = np.dtype([("own", "f8"), ("clock", "f8"), ("writes", "i8")])


def bench_growth(scoreboard: Scoreboard) -> None:
    """Each growth is followed by a control of the same writers over the same time."""
    turns: dict[str, list[Any]] = {"growing": [], "not growing": []}
    for _ in range(GROWTH_ROUNDS):
        pauses, took = _pauses(None)
        turns["growing"].append(pauses)
        turns["not growing"].append(_pauses(took)[0])
    for scenario, kind in zip(GROWTH, ("own", "clock"), strict=True):
        longest = {name: [float(p[kind].max()) for p in turn] for name, turn in turns.items()}
        scoreboard.judge(scenario, _timings(longest))


def _pauses(control: float | None) -> tuple[Any, float]:
    """Let the table grow, or not for so many seconds; the writers' pauses, and how long it took."""
    record = np.dtype([("u", "f8"), ("f", "f8", (6,))], align=True)
    with Table(record, FROM_ROWS) as table, Table(PAUSES, WORKERS) as pauses:
        table.extend(FROM_ROWS)
        pauses.extend(WORKERS)
        before = table.rows
        ours, theirs = socket.socketpair()
        with ours, theirs:
            writers = [_fork_writer(table, pauses, number, theirs) for number in range(WORKERS)]
            for _ in writers:
                ours.recv(1)
            start = time.perf_counter()
            if control is None:
                while len(table) < TO_ROWS:
                    table.extend(min(STEP, TO_ROWS - len(table)))
            else:
                time.sleep(control)
            took = time.perf_counter() - start
            ours.send(b"." * WORKERS)
            for pid in writers:
                assert os.waitpid(pid, 0)[1] == 0
        # No byte was copied: the rows are where they were, an array that was taken before the
        # growth is the same memory, and what was written meanwhile through either is there.
        assert len(table) == (TO_ROWS if control is None else FROM_ROWS)
        assert before.ctypes.data == table.rows.ctypes.data
        assert np.shares_memory(before, table.rows)
        assert (before["u"][:WORKERS] == pauses["writes"]).all()
        return pauses.rows.copy(), took


def _fork_writer(table: Table, pauses: Table, number: int, channel: socket.socket) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        channel.send(b".")
        channel.setblocking(False)
        pauses.rows[number] = _write(table, number, channel)
        code = 0
    finally:
        os._exit(code)


def _write(table: Table, number: int, channel: socket.socket) -> tuple[float, float, int]:
    """Write a row of old, and the newest, until told to stop; the longest pauses and the writes.

    A pause is the time between two writes. By the clock, that includes what other programs ran on
    this core, and the owner of the table is one of them. So of a pause in which the scheduler took
    the core away, and the writer waited for nothing by itself, the other counts its processor time
    alone. That has the kernel's part: page faults, locks. What a table can do to a writer is in it.
    """
    usage, clock, processor = resource.getrusage, time.perf_counter, time.thread_time
    mine = table.rows[number]
    own = by_clock = 0.0
    count = 0
    seen, before, spent = usage(resource.RUSAGE_THREAD), clock(), processor()
    while True:
        count += 1
        mine["u"] = count
        rows = table.rows
        rows[len(rows) - 1 - number]["f"][count % 6] = count
        # Asked around the clock: one that comes between is in the pause before and the one after.
        earlier = usage(resource.RUSAGE_THREAD)
        now, used = clock(), processor()
        later = usage(resource.RUSAGE_THREAD)
        preempted = later.ru_nivcsw > seen.ru_nivcsw and later.ru_nvcsw == seen.ru_nvcsw
        by_clock = max(by_clock, now - before)
        own = max(own, used - spent if preempted else now - before)
        if count % 256 == 0:
            try:
                channel.recv(1)
            except BlockingIOError:
                earlier, now, used = usage(resource.RUSAGE_THREAD), clock(), processor()
            else:
                return own, by_clock, count
        seen, before, spent = earlier, now, used


def _timings(turns: dict[str, list[float]]) -> dict[str, Timing]:
    return {name: Timing(np.array(values), np.array(values)) for name, values in turns.items()}
