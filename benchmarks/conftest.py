"""Fixtures of the benchmarks, and the table at their end.

Each scenario is measured twice: every contestant by itself for pytest-benchmark's table
(``tabulate``), and all of them in turns for the ratios (``side_by_side``). Only the latter are
compared with the targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console

from benchmarks.contest import Contestant, Scenario
from benchmarks.interleave import LEAST_WARM_UPS, interleave
from benchmarks.machine import conditions
from benchmarks.plots import draw
from benchmarks.scoreboard import Scoreboard

_RESULTS = Path(__file__).parent / "results" / "latest.json"
_BOARD = pytest.StashKey[Scoreboard]()
_CONDITIONS = pytest.StashKey[Mapping[str, Any]]()
# The least that gives an interquartile range; the slowest contestants take a second a map.
_ROUNDS = 5
_WIDTH = 170


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_BOARD] = Scoreboard()
    # Now, when the sources are imported and the load is still that of other programs.
    config.stash[_CONDITIONS] = conditions()


@pytest.fixture(scope="session")
def scoreboard(pytestconfig: pytest.Config) -> Scoreboard:
    return pytestconfig.stash[_BOARD]


@pytest.fixture
def tabulate(benchmark: BenchmarkFixture) -> Callable[[Contestant], None]:
    """Measures one contestant for pytest-benchmark's table."""

    def run(contestant: Contestant) -> None:
        with contestant.open() as run_map:
            result = benchmark.pedantic(  # type: ignore[no-untyped-call]
                run_map, rounds=_ROUNDS, warmup_rounds=LEAST_WARM_UPS
            )
            contestant.check(result)

    return run


@pytest.fixture
def side_by_side(scoreboard: Scoreboard) -> Callable[[Scenario], None]:
    """Measures all contestants of a scenario in turns and judges them."""

    def run(scenario: Scenario) -> None:
        scoreboard.judge(scenario, interleave(scenario.contestants, scenario.rounds))

    return run


@pytest.hookimpl(trylast=True)  # after pytest-benchmark's own tables
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    board = terminalreporter.config.stash[_BOARD]
    if not board.verdicts:
        return
    terminalreporter.ensure_newline()
    board.print(Console(width=_WIDTH))
    board.write(_RESULTS, terminalreporter.config.stash[_CONDITIONS])
    for path in (_RESULTS, *draw(board, _RESULTS.parent)):
        terminalreporter.write_line(f"written: {path}")
