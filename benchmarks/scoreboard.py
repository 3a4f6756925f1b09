"""Verdicts: ours against a rival or a limit, as one table and one JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contest import AtMost, Contestant, Scenario, Times
from benchmarks.interleave import Ratio, Timing

_WIDEST = 48
_HEADINGS = ("ours", "takes", "rival", "takes", "rival/ours", "quartiles", "target", "")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table.

    Attributes:
        ours, theirs: figures ready to read, with units.
        ratio: theirs / ours, None where ours is compared with a limit.
        target: what was to be reached, or why the rival is in the table although it is none:
            the fastest one, a floor or a limit.
        met: None where there was no target.
    """

    scenario: str
    contestant: str
    ours: str
    rival: str
    theirs: str
    ratio: float | None
    ratio_quartiles: tuple[float, float] | None
    target: str
    met: bool | None


class Scoreboard:
    """Collects verdicts and the timings behind them over a session."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []
        self.figures: list[dict[str, Any]] = []
        # What was noted over the cycles of a long run: run -> name -> values, all of one length.
        self.series: dict[str, dict[str, list[float]]] = {}

    def judge(self, scenario: Scenario, timings: Mapping[str, Timing]) -> None:
        """Hold each of ours against the targets, the fastest rival and the floors."""
        for name, timing in timings.items():
            self.figures.append(_figures(scenario, name, timing))
        for ours in scenario.ours:
            targets = [target for target in scenario.targets if target.of in (None, ours.name)]
            self.verdicts += [
                _limit(scenario, ours, timings[ours.name], target)
                for target in targets
                if isinstance(target, AtMost)
            ]
            times = [target for target in targets if isinstance(target, Times)]
            self.verdicts += [
                _race(scenario, ours, timings, *race) for race in _races(scenario, times, timings)
            ]

    def print(self, console: Console) -> None:
        table = Table(title="medians a walker, 2 workers", box=box.SIMPLE_HEAD)
        first, *others = _HEADINGS
        table.add_column(first, max_width=_WIDEST)  # a long scenario wraps, and squeezes nothing
        for heading in others:
            table.add_column(heading, no_wrap=True)
        previous = ("", "")
        for v in self.verdicts:
            if v.scenario != previous[0]:
                table.add_section()
                table.add_row(f"[bold]{v.scenario}[/bold]")
            repeated = (v.scenario, v.contestant) == previous
            table.add_row(
                "" if repeated else v.contestant,
                "" if repeated else v.ours,
                v.rival,
                v.theirs,
                _number(v.ratio),
                " - ".join(map(_number, v.ratio_quartiles or ())),
                v.target,
                _verdict(v),
            )
            previous = (v.scenario, v.contestant)
        console.print(table)

    def write(self, path: Path, conditions: Mapping[str, Any]) -> None:
        path.parent.mkdir(exist_ok=True)
        document = {
            **conditions,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "timings": self.figures,
            "series": self.series,
        }
        path.write_text(json.dumps(document, indent=1) + "\n")


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    scale, unit = next(((s, u) for s, u in _UNITS if seconds >= s), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"


def _races(
    scenario: Scenario, targets: Sequence[Times], timings: Mapping[str, Timing]
) -> list[tuple[str, float | str]]:
    """Whom to compare with, and what is wanted, or in which role he is there."""
    by_time = sorted(scenario.rivals, key=lambda rival: timings[rival.name].median)
    fastest = by_time[0].name if by_time else None
    races: dict[str, float | str] = {}
    for target in targets:
        rival = fastest if target.rival is None else target.rival
        if rival is not None:
            races[rival] = target.factor
    if fastest is not None:
        races.setdefault(fastest, "fastest")
    for role, contestants in (("floor", scenario.floors), ("limit", scenario.limits)):
        for contestant in contestants:
            races.setdefault(contestant.name, role)
    return list(races.items())


def _limit(scenario: Scenario, ours: Contestant, timing: Timing, target: AtMost) -> Verdict:
    walker = timing.median / scenario.walkers
    return Verdict(
        scenario.title,
        ours.name,
        duration(walker),
        "",
        "",
        None,
        None,
        f"<= {duration(target.seconds)}",
        walker <= target.seconds,
    )


def _race(
    scenario: Scenario,
    ours: Contestant,
    timings: Mapping[str, Timing],
    rival: str,
    wanted: float | str,
) -> Verdict:
    ratio = Ratio.of(timings[rival], timings[ours.name])
    return Verdict(
        scenario.title,
        ours.name,
        duration(timings[ours.name].median / scenario.walkers),
        rival,
        duration(timings[rival].median / scenario.walkers),
        ratio.median,
        ratio.quartiles,
        wanted if isinstance(wanted, str) else _at_least(wanted),
        None if isinstance(wanted, str) else ratio.median >= wanted,
    )


def _at_least(factor: float) -> str:
    return f">= {factor:.3g}" if factor >= 1 else f">= 1/{1 / factor:.3g}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _verdict(verdict: Verdict) -> str:
    if verdict.met is not None:
        return "met" if verdict.met else "[bold]missed[/bold]"
    if verdict.target == "limit":
        return ""
    return "ahead" if verdict.ratio is not None and verdict.ratio > 1 else "behind"


def _figures(scenario: Scenario, name: str, timing: Timing) -> dict[str, Any]:
    return {
        "scenario": scenario.title,
        "contestant": name,
        "walkers": scenario.walkers,
        "median_s": timing.median,
        "quartiles_s": timing.quartiles,
        "p99_s": timing.p99,
        "turns_s": timing.turns.tolist(),
        "maps": len(timing.maps),
    }
