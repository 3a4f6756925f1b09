"""``ringwalk bench``: what a walker costs on this machine, beside the standard library's pools.

Contestants take turns, so that what else the machine does meets all of them; the table has medians.
With the pools of the standard library the chunks decide what a task costs, so both are shown: one
task a chunk, and eight chunks a worker. The benchmark with other rivals is in the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics

from rich.console import Console
from rich.table import Table

from ringwalk.cli.contests import make_contests
from ringwalk.config import resolve_num_workers
from ringwalk.errors import ConfigError
from ringwalk.observe.progress import Reporter

Medians = dict[str, dict[str, float]]
"""Scenario -> contestant -> seconds a walker."""


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--workers", type=int, metavar="N", help="processes (default: one a usable core)")
    add("--turns", type=int, default=3, metavar="N", help="turns (default: %(default)s)")
    add("--json", action="store_true", help="print JSON, seconds a walker")
    parser.set_defaults(run=run_bench)


def run_bench(options: argparse.Namespace) -> int:
    """Time everything; print medians."""
    if options.turns < 1:
        raise ConfigError(f"--turns is {options.turns}; give 1 or more")
    workers = resolve_num_workers(options.workers)
    contests = make_contests(workers)
    turns = options.turns * sum(len(contest.contestants) for contest in contests)
    reporter, done = Reporter(not options.json, "turns"), 0
    medians: Medians = {}
    for contest in contests:
        taken: dict[str, list[float]] = {name: [] for name in contest.contestants}
        for _ in range(options.turns):
            for name, turn in contest.contestants.items():
                taken[name] += turn()
                done += 1
                reporter.tell(done, turns)
        medians[contest.name] = {n: statistics.median(maps) for n, maps in taken.items()}
    reporter.end()
    if options.json:
        machine = {"workers": workers, "load": os.getloadavg()[0]}
        print(json.dumps({**machine, "seconds a walker": medians}, indent=2))
    else:
        Console(highlight=False).print(_table(medians, workers))
    return 0


def _table(medians: Medians, workers: int) -> Table:
    table = Table(title=f"Time a walker with {workers} workers, medians", box=None)
    table.add_column("scenario")
    table.add_column("run by")
    table.add_column("a walker", justify="right")
    table.add_column("of ours", justify="right")
    for scenario, contestants in medians.items():
        ours, *rivals = contestants
        table.add_row(scenario, ours, _time(contestants[ours]))
        for rival in rivals:
            ratio = contestants[rival] / contestants[ours]
            table.add_row("", rival, _time(contestants[rival]), f"{ratio:.2f} x")
    return table


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
