"""A timeline as a figure: workers down, time across. Gaps are where a worker had nothing to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from ringwalk.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ringwalk.observe.timeline import Timeline

# Told apart by the colour-blind: Paul Tol's bright scheme.
COLOURS = {"done": "#4477aa", "failed": "#ee6677", "died": "#aa3377"}
_ROW_INCHES = 0.3


def draw(timeline: Timeline, path: str | os.PathLike[str] | None) -> Figure:
    """Draw every attempt as a bar in its worker's row; shade the time outside of maps."""
    try:
        from matplotlib.collections import PolyCollection
        from matplotlib.figure import Figure  # not pyplot, which keeps a figure until it is closed
    except ImportError as error:
        raise ConfigError(
            "Timeline.plot needs matplotlib, which is not installed: pip install ringwalk[report]; "
            "Timeline.report draws without it"
        ) from error
    height = min(30.0, 1.5 + _ROW_INCHES * timeline.workers)
    figure = Figure(figsize=(10, height), layout="constrained")
    axes = figure.add_subplot(
        title=f"{timeline.mapper}, {len(timeline)} attempts in {timeline.seconds:.3g} s",
        xlabel="seconds",
        ylabel="worker",
        xlim=(0, timeline.seconds or 1),
        ylim=(timeline.workers - 0.5, -0.5),
    )
    for outcome, colour in COLOURS.items():
        chosen = timeline.records[timeline.records["outcome"] == outcome]
        if not len(chosen):
            continue
        left, right, row = chosen["started"], chosen["finished"], chosen["worker"]
        corners = [(left, row - 0.4), (left, row + 0.4), (right, row + 0.4), (right, row - 0.4)]
        bars = np.stack([np.stack(corner, -1) for corner in corners], 1)
        shapes = PolyCollection(list(bars), facecolors=colour, edgecolors="white", lw=0.2)
        axes.add_collection(shapes)
        axes.plot([], [], "s", color=colour, label=f"{outcome} ({len(chosen)})")
    for (_, ended), (began, _) in zip(timeline.spans[:-1], timeline.spans[1:], strict=True):
        axes.axvspan(ended, began, color="0.92", lw=0)
    if timeline.workers <= 40:
        rows = range(timeline.workers)
        axes.set_yticks(rows, [_label(timeline, worker) for worker in rows])
    if len(timeline):
        figure.legend(loc="outside lower right", ncols=3, frameon=False)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _label(timeline: Timeline, worker: int) -> str:
    device = timeline.device_of(worker)
    return f"{worker}, device {device}" if device else str(worker)
