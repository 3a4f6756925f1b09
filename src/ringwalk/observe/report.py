"""A timeline as one HTML file: no scripts, no network, readable in any browser and on paper."""

from __future__ import annotations

import html
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ringwalk.observe.advice import advise, size_text, time_text
from ringwalk.observe.summary import Floats, Summary

if TYPE_CHECKING:
    from ringwalk.observe.timeline import Timeline

_WIDTH = 960
_ROW = 18
# A bar narrower than this melts with its neighbour, or a long timeline would be a huge file.
_NARROW = 2.0
_GAP = 0.5
_LABELS = 40
_TICKS = 7

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Ringwalk: {title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em;
  color: #222; background: #fff }}
h1 {{ font-size: 1.5em }} h2 {{ font-size: 1.15em; margin-top: 2em }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: .15em 1.2em .15em 0; vertical-align: middle }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums }}
.bar {{ background: #e6e6e6; width: 20em; height: .8em }}
.bar div {{ background: #4477aa; height: 100% }}
.split {{ display: flex; height: 1.6em; width: 100%; border-radius: 3px; overflow: hidden }}
.keys span {{ margin-right: 1.5em; white-space: nowrap }}
.keys i {{ display: inline-block; width: .8em; height: .8em; margin-right: .4em }}
.busy, .done {{ background: #4477aa; fill: #4477aa }} .tail {{ background: #ccbb44 }}
.overhead {{ background: #66ccee }} .failed {{ fill: #ee6677 }} .died {{ fill: #aa3377 }}
svg {{ width: 100%; height: auto }} svg text {{ font: 11px sans-serif }}
svg .time {{ text-anchor: middle }} svg line {{ stroke: #999 }}
svg .map {{ fill: #eee }} rect.done, rect.failed, rect.died {{ stroke: #fff; stroke-width: .3 }}
.advice li {{ margin-bottom: .6em }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{lead}</p>
<h2>What to change</h2>
<ol class="advice">{advice}</ol>
<h2>Where the workers' time went</h2>
{split}
<h2>Timeline</h2>
{chart}
<h2>Use of workers and devices</h2>
<table id="use">{use}</table>
<h2>Figures</h2>
<table id="figures">{figures}</table>
</body>
</html>
"""


def _title(timeline: Timeline) -> str:
    started = f", started by {timeline.started}" if timeline.started else ""
    return f"{timeline.mapper} on {timeline.workers} workers{started}"


def write_report(timeline: Timeline, path: str | os.PathLike[str]) -> None:
    """Write the page."""
    Path(path).write_text(page(timeline), encoding="utf-8")


def page(timeline: Timeline) -> str:
    """The page's text."""
    summary = Summary.of(timeline)
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    advice = advise(timeline, summary, machine)
    return _PAGE.format(
        title=html.escape(_title(timeline)),
        lead=_lead(summary),
        advice="".join(f"<li>{html.escape(sentence)}</li>" for sentence in advice),
        split=_split(summary),
        chart=_chart(timeline),
        use=_use(timeline, summary),
        figures=_figures(timeline, summary),
    )


def _lead(summary: Summary) -> str:
    maps = "1 map" if summary.maps == 1 else f"{summary.maps} maps"
    return (
        f"{summary.walkers:,} segments in {maps}, {time_text(summary.wall)} by the clock. Workers "
        f"spent {summary.share(summary.busy):.0%} of the maps' time in segments."
    )


def _split(summary: Summary) -> str:
    parts = (
        ("busy", summary.busy, "in segments"),
        ("overhead", summary.overhead, "handing out and taking in"),
        ("tail", summary.tail, "waiting for the last to end"),
    )
    bars = "".join(
        f'<div class="{kind}" style="width:{100 * summary.share(seconds):.2f}%"></div>'
        for kind, seconds, _ in parts
    )
    keys = "".join(
        f'<span><i class="{kind}"></i>{text}: {summary.share(seconds):.1%}</span> '
        for kind, seconds, text in parts
    )
    return f'<div class="split">{bars}</div><p class="keys">{keys}</p>'


def _chart(timeline: Timeline) -> str:
    rows = _ROW * timeline.workers
    scale = (_WIDTH - _LABELS) / (timeline.seconds or 1)
    shapes = [
        f'<rect class="map" x="{_LABELS + began * scale:.2f}" y="0" '
        f'width="{(ended - began) * scale:.2f}" height="{rows}"/>'
        for began, ended in timeline.spans.tolist()
    ]
    for worker in range(timeline.workers):
        top = worker * _ROW + 2
        shapes.append(f'<text x="4" y="{top + 11}">{worker}</text>')
        mine = timeline.records[timeline.records["worker"] == worker]
        for outcome in ("done", "failed", "died"):
            chosen = mine[mine["outcome"] == outcome]
            bars = zip(*_melted(chosen["started"] * scale, chosen["finished"] * scale), strict=True)
            shapes += [
                f'<rect class="{outcome}" x="{_LABELS + left:.2f}" y="{top}" '
                f'width="{max(right - left, _GAP):.2f}" height="{_ROW - 4}"/>'
                for left, right in bars
            ]
    for at in _ticks(timeline.seconds):
        x = f"{_LABELS + at * scale:.1f}"
        shapes.append(f'<line x1="{x}" x2="{x}" y1="{rows}" y2="{rows + 4}"/>')
        shapes.append(f'<text class="time" x="{x}" y="{rows + 15}">{time_text(at)}</text>')
    return (
        f'<svg viewBox="0 0 {_WIDTH} {rows + 20}" role="img" aria-label="One row a worker, from 0 '
        f'to {time_text(timeline.seconds)}">{"".join(shapes)}</svg>'
        "<p>One row a worker, one bar a segment (red: it raised, purple: its process died). Grey "
        "is a map in which the worker had nothing to run; white is no map.</p>"
    )


def _ticks(seconds: float) -> list[float]:
    """Round times from 0 on; none so near to the end that its label would be cut."""
    if not seconds:
        return [0.0]
    least = seconds / _TICKS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
    return [float(at) for at in np.arange(0.0, 0.97 * seconds, step)]


def _melted(began: Floats, ended: Floats) -> tuple[list[float], list[float]]:
    """Narrow bars that nearly touch, made one. They come in order of begin."""
    if not len(began):
        return [], []
    narrow = ended - began < _NARROW
    close = (began[1:] - ended[:-1] < _GAP) & narrow[1:] & narrow[:-1]
    apart = np.flatnonzero(~close)
    first = np.concatenate([[0], apart + 1])
    last = np.concatenate([apart, [len(ended) - 1]])
    return began[first].tolist(), ended[last].tolist()


def _use(timeline: Timeline, summary: Summary) -> str:
    peaks = timeline.memory.workers
    rows = ["<tr><th></th><th>in segments</th><th></th><th>most memory</th></tr>"]
    for worker, share in enumerate(summary.worker_use.tolist()):
        device = timeline.device_of(worker)
        name = f"worker {worker}" + (f", device {device}" if device else "")
        peak = size_text(peaks[worker]) if worker in peaks else ""
        rows.append(_bar(name, share, peak))
    rows += [_bar(f"device {name}", share, "") for name, share in summary.device_use.items()]
    return "".join(rows)


def _bar(name: str, share: float, last: str) -> str:
    width = f'<div class="bar"><div style="width:{100 * min(share, 1):.1f}%"></div></div>'
    return (
        f'<tr><td>{html.escape(name)}</td><td class="n">{share:.1%}</td><td>{width}</td>'
        f'<td class="n">{last}</td></tr>'
    )


def _figures(timeline: Timeline, summary: Summary) -> str:
    memory = timeline.memory
    rows = {
        "Median segment": time_text(summary.segment),
        "Longest segment": time_text(summary.longest),
        "Overhead a walker, worker time": time_text(summary.overhead_per_walker),
        "Load imbalance (busiest over mean worker, minus 1)": f"{summary.imbalance:.1%}",
        "Attempts that died": str(summary.died),
        "Worker time lost in them": time_text(summary.lost) if summary.died else "none",
        "Workers that could never go on": str(len(timeline.stuck)),
        "Segments that raised": str(summary.failed),
        "Time between maps": time_text(summary.between) if summary.maps > 1 else "none",
        "Data to workers": size_text(summary.bytes_in),
        "Data from workers": size_text(summary.bytes_out),
        "Copies of a walker's data": str(summary.copies),
        "Most memory, this process": size_text(memory.parent),
        "Most memory, largest process that ended": size_text(memory.ended)
        if memory.ended
        else "none seen",
        "Shared memory for payloads": size_text(memory.shared),
    }
    return "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{value}</td></tr>'
        for name, value in rows.items()
    )
