"""What does it cost to run a command, and what of a Python command's start can be saved?

The floor is a loop on ``subprocess.Popen``, which keeps no queue and notes nothing. The rival is
Jobmon's own multiprocess distributor. Three questions: commands that do nothing, by the thousand;
one at a time, until its end is known; and processor seconds of Jobmon's real worker program.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contest import WORKERS, Contestant, Scenario, Times, mapping
from benchmarks.rivals.jobmon_multiprocess import JobmonMultiprocess
from benchmarks.rivals.popen_loop import PopenLoop
from benchmarks.scoreboard import Scoreboard, Verdict
from ringwalk.distributors import CommandDistributor

COMMANDS = 1000
TRUE = "/bin/true"
ALLOWANCE = 1.1
ONE_BY_ONE = 300
WORKER = str(Path(sys.executable).parent / "worker_node_entry_point")
WORKER_COMMAND = "worker_node_array --help"
TASKS = 20


def items() -> Sequence[int]:
    return range(COMMANDS)


@contextmanager
def distributor() -> Iterator[Callable[[], tuple[CommandDistributor, list[str]]]]:
    with CommandDistributor(WORKERS) as running:

        def run() -> tuple[CommandDistributor, list[str]]:
            ids = running.submit_array([TRUE], COMMANDS)
            running.wait(ids)
            return running, ids

        yield run


def check_ours(outcome: tuple[CommandDistributor, list[str]]) -> None:
    running, ids = outcome
    infos = [running.exit_info(name) for name in ids]
    assert all(info is not None and info.ok for info in infos)


def check_codes(commands: Sequence[int], codes: list[int]) -> None:
    assert codes == [0] * len(commands)


def check_count(commands: Sequence[int], results: list[Any]) -> None:
    assert len(results) == len(commands)


SCENARIO = Scenario(
    "commands that do nothing",
    COMMANDS,
    ours=(Contestant("CommandDistributor", distributor, check_ours),),
    rivals=(
        mapping("Popen loop", partial(PopenLoop, [TRUE], WORKERS), items, check_codes),
        mapping("jobmon", partial(JobmonMultiprocess, TRUE, "", WORKERS), items, check_count),
    ),
    targets=(Times("Popen loop", 1 / ALLOWANCE), Times("jobmon", 1.3)),
    rounds=5,
)


@pytest.mark.benchmark(group=f"{SCENARIO.title}, {SCENARIO.walkers} at a time")
@pytest.mark.parametrize("contestant", SCENARIO.contestants, ids=str)
def bench_each(contestant: Contestant, tabulate: Callable[[Contestant], None]) -> None:
    tabulate(contestant)


def bench_side_by_side(side_by_side: Callable[[Scenario], None]) -> None:
    side_by_side(SCENARIO)


def bench_one_by_one(scoreboard: Scoreboard) -> None:
    """From the submit of a command to the knowledge of its end, in turns with a bare Popen."""
    ours, bare = [], []
    with CommandDistributor(WORKERS) as running:
        running.wait([running.submit([TRUE])])
        for _ in range(ONE_BY_ONE):
            start = time.perf_counter()
            running.wait([running.submit([TRUE])])
            middle = time.perf_counter()
            subprocess.Popen([TRUE]).wait()
            ours.append(middle - start)
            bare.append(time.perf_counter() - middle)
    _judge(scoreboard, "one command at a time", "bare Popen", ours, bare, "s", 1 / 1.2)


def bench_python_workers(scoreboard: Scoreboard) -> None:
    """Processor seconds of Jobmon's worker program, its imports included, template included."""
    ours, theirs = [], []
    for _ in range(3):
        before = _processor()
        with CommandDistributor(
            WORKERS, stdout=subprocess.DEVNULL, warm=["jobmon.worker_node.cli"]
        ) as running:
            ids = running.submit_array([WORKER, *WORKER_COMMAND.split()], TASKS)
            running.wait()
            assert all((info := running.exit_info(name)) and info.warm for name in ids)
        ours.append(_processor() - before)
        before = _processor()
        with JobmonMultiprocess(WORKER, f"{WORKER_COMMAND} >/dev/null", WORKERS) as rival:
            rival.map(range(TASKS))
        theirs.append(_processor() - before)
    _judge(scoreboard, f"{TASKS} Python workers", "jobmon", ours, theirs, "CPU s", 8)


def _processor() -> float:
    """Seconds of this process and of all that it has waited for."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def _judge(
    scoreboard: Scoreboard,
    scenario: str,
    rival: str,
    ours: list[float],
    theirs: list[float],
    unit: str,
    target: float,
) -> None:
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    low, median, high = statistics.quantiles(ratios)
    figures = [f"{statistics.median(values):.4g} {unit}" for values in (ours, theirs)]
    scoreboard.verdicts.append(
        Verdict(
            scenario,
            "CommandDistributor",
            figures[0],
            rival,
            figures[1],
            median,
            (low, high),
            f"{target:.2g}x",
            median >= target,
        )
    )
