"""What does a run of a parameter study cost? No-op runs by proFit, commands, a growing table."""

from __future__ import annotations

import os
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
STUDY_ROUNDS = 3
COMMANDS = 50
GROWTH_ROUNDS = 7
FROM_ROWS, TO_ROWS, STEP = 1_000, 1_000_000, 27_000


# --- proFit's runners, in proFit's environment ------------------------------------------------

CONTESTANTS = {
    "ringwalk": ("ringwalk", "ringwalk", 0.1),
    "fork+memmap, sleep 0.1": ("fork", "memmap", 0.1),
    "fork+memmap, sleep 0.001": ("fork", "memmap", 0.001),
}
STUDY = Scenario(
    "a study of no-op runs, proFit 0.6",
    RUNS,
    ours=(named("ringwalk"),),
    rivals=tuple(named(name) for name in CONTESTANTS if name != "ringwalk"),
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
                turns[name].append(seconds(process, *CONTESTANTS[name], RUNS))
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

GROWTH = Scenario(
    "longest pause of 2 writers while a table grows from 1e3 to 1e6 rows",
    1,
    ours=(named("growing"),),
    rivals=(named("not growing"),),
    targets=(AtMost(0.010),),
)


def bench_growth(scoreboard: Scoreboard) -> None:
    turns: dict[str, list[float]] = {"growing": [], "not growing": []}
    for number in range(GROWTH_ROUNDS):
        for name in sorted(turns, reverse=bool(number % 2)):
            turns[name].append(_longest_pause(grow=name == "growing"))
    scoreboard.judge(GROWTH, _timings(turns))


def _longest_pause(*, grow: bool) -> float:
    record = np.dtype([("u", "f8"), ("f", "f8", (6,)), ("pause", "f8")], align=True)
    with Table(record, FROM_ROWS) as table:
        table.extend(FROM_ROWS)
        address = table.rows.ctypes.data
        ours, theirs = socket.socketpair()
        writers = [_fork_writer(table, row, theirs) for row in range(WORKERS)]
        for _ in writers:
            ours.recv(1)
        if grow:
            while len(table) < TO_ROWS:
                table.extend(min(STEP, TO_ROWS - len(table)))
        else:
            time.sleep(0.1)
        ours.send(b"." * WORKERS)
        for pid in writers:
            assert os.waitpid(pid, 0)[1] == 0
        # No byte was copied: the rows are where they were, and they are what was written.
        assert table.rows.ctypes.data == address
        assert len(table) == (TO_ROWS if grow else FROM_ROWS)
        assert (table["u"][:WORKERS] > 0).all()
        pause = float(table["pause"][:WORKERS].max())
        ours.close()
        theirs.close()
    return pause


def _fork_writer(table: Table, row: int, channel: socket.socket) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # By the clock: time that other programs have the core counts, hence "not growing".
        mine = table.rows[row]
        channel.send(b".")
        channel.setblocking(False)
        clock = time.perf_counter
        longest, count, before = 0.0, 0, clock()
        while True:
            count += 1
            mine["u"] = count
            mine["f"][count % 6] = count
            now = clock()
            longest = max(longest, now - before)
            before = now
            if count % 256 == 0:
                try:
                    channel.recv(1)
                    break
                except BlockingIOError:
                    before = clock()
        mine["pause"] = longest
        code = 0
    finally:
        os._exit(code)


def _timings(turns: dict[str, list[float]]) -> dict[str, Timing]:
    return {name: Timing(np.array(values), np.array(values)) for name, values in turns.items()}
