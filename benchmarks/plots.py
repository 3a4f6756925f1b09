"""Pictures of the last run: ``results/*.png``, from what the scoreboard has collected.

Draws what was measured and no more: a run of a part of the benchmarks redraws a part of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.scoreboard import Scoreboard

Figures = Sequence[dict[str, Any]]

_RED = mpl.color_sequences["tab10"][3]
_OURS = {"color": _RED, "linewidth": 2.5, "zorder": 3}
_RIVALS = {"linewidth": 1.0, "alpha": 0.8}
_BYTES = {"KB": 1e3, "MB": 1e6}


def draw(board: Scoreboard, folder: Path) -> list[Path]:
    """Draw all pictures for which there are figures."""
    folder.mkdir(exist_ok=True)
    pictures: dict[str, Callable[[Axes, Scoreboard], bool]] = {
        "batches": _batches,
        "arrays": _arrays,
        "scaling": _scaling,
        "memory": _memory,
    }
    written = []
    for name, picture in pictures.items():
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        if picture(axes, board):
            axes.legend(fontsize=8)
            axes.grid(alpha=0.3)
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110)
            written.append(path)
        plt.close(figure)
    return written


def _batches(axes: Axes, board: Scoreboard) -> bool:
    lines = _lines(board.figures, r"no-op, ([\d,]+) at once", lambda m: int(m[1].replace(",", "")))
    axes.set(title="No-op segments, 2 workers", xlabel="walkers mapped at once")
    return _microseconds(axes, lines, lambda name: name.startswith("WorkerMapper"))


def _arrays(axes: Axes, board: Scoreboard) -> bool:
    lines = _lines(
        board.figures,
        r"(\d+) ([KM]B) there and back",
        lambda m: int(int(m[1]) * _BYTES[m[2]]),
    )
    ours = {"rows of a block", "arrays", "arrays, read-only", "objects"}
    axes.set(title="float64 states there and back, 2 workers", xlabel="bytes a state")
    return _microseconds(axes, lines, ours.__contains__)


def _scaling(axes: Axes, board: Scoreboard) -> bool:
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for figure in board.figures:
        found = re.fullmatch(r"(.*), (\d+) workers?", figure["contestant"])
        if found and figure["scenario"] == "no-op on more workers than cores":
            lines.setdefault(found[1], []).append((int(found[2]), figure))
    axes.set(title="No-op rows on more workers than cores", xlabel="workers")
    return _microseconds(axes, lines, lambda name: name == "WorkerMapper")


def _memory(axes: Axes, board: Scoreboard) -> bool:
    for inputs, columns in board.series.items():
        for name, values in columns.items():
            if name != "cycle":
                megabytes = [value / 1e6 for value in values]
                axes.plot(columns["cycle"], megabytes, linewidth=1, label=f"{inputs}: {name}")
    axes.set(
        title="Shared memory of a WorkerMapper, states of other sizes in each cycle",
        xlabel="cycle",
        ylabel="MB",
        ylim=(0, None),
    )
    return bool(board.series)


def _lines(
    figures: Figures, pattern: str, size: Callable[[re.Match[str]], float]
) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Contestant -> (size, figure), of the scenarios whose title tells a size."""
    lines: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for figure in figures:
        if found := re.fullmatch(pattern, figure["scenario"]):
            lines.setdefault(figure["contestant"], []).append((size(found), figure))
    return lines


def _microseconds(
    axes: Axes,
    lines: dict[str, list[tuple[float, dict[str, Any]]]],
    is_ours: Callable[[str], bool],
) -> bool:
    """One line a contestant, its quartiles as bars; ours in red."""
    styles = iter(("-", "--", "-.", ":"))
    axes.set_prop_cycle(color=[c for c in mpl.color_sequences["tab10"] if c != _RED])
    for name, points in sorted(lines.items(), key=lambda line: not is_ours(line[0])):
        points = sorted(points, key=lambda point: point[0])
        sizes = [size for size, _ in points]
        medians, low, high = (
            [1e6 * value(figure) / figure["walkers"] for _, figure in points]
            for value in (
                lambda figure: figure["median_s"],
                lambda figure: figure["median_s"] - figure["quartiles_s"][0],
                lambda figure: figure["quartiles_s"][1] - figure["median_s"],
            )
        )
        style = {**_OURS, "linestyle": next(styles, "-")} if is_ours(name) else _RIVALS
        # Quartiles of few turns may lie on one side of their median by a rounding.
        bars = [[max(value, 0.0) for value in side] for side in (low, high)]
        axes.errorbar(
            sizes, medians, bars, marker="o", markersize=4, capsize=2, label=name, **style
        )
    axes.set(xscale="log", yscale="log", ylabel="microseconds a walker")
    return bool(lines)
