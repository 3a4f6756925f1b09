"""A timeline as a Chrome trace: the JSON that Perfetto and chrome://tracing read.

One process, one thread a worker; a complete event ("X") an attempt, and one a map above them.
Format: "Trace Event Format", Google, section "JSON Object Format". Times there are microseconds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringwalk.observe.timeline import Timeline

_PROCESS = 1
_MAPS = 0  # the row of the maps; worker w is row w + 1


def write_trace(timeline: Timeline, path: str | os.PathLike[str]) -> None:
    """Write the trace."""
    document = {
        "displayTimeUnit": "ms",
        "otherData": {
            "mapper": timeline.mapper,
            "workers": timeline.workers,
            "started": timeline.started,
        },
        "traceEvents": [*_names(timeline), *_maps(timeline), *_attempts(timeline)],
    }

    Path(path).write_text(json.dumps(document), encoding="utf-8")


def _names(timeline: Timeline) -> list[dict[str, Any]]:
    rows = {_MAPS: "maps"}
    for worker in range(timeline.workers):
        device = timeline.device_of(worker)
        rows[worker + 1] = f"worker {worker}" + (f", device {device}" if device else "")
    process = _meta("process_name", 0, name=f"ringwalk {timeline.mapper}")
    return [
        process,
        *(_meta("thread_name", row, name=name) for row, name in rows.items()),
        *(_meta("thread_sort_index", row, sort_index=row) for row in rows),
    ]


def _meta(kind: str, row: int, **arguments: Any) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": _PROCESS, "tid": row, "args": arguments}


def _maps(timeline: Timeline) -> list[dict[str, Any]]:
    return [
        _event(f"map {number}", "map", _MAPS, began, ended, {})
        for number, (began, ended) in enumerate(timeline.spans.tolist())
    ]


def _attempts(timeline: Timeline) -> list[dict[str, Any]]:
    names = timeline.records.dtype.names or ()
    events = []
    for values in timeline.records.tolist():
        record = dict(zip(names, values, strict=True))
        began, ended = record.pop("started"), record.pop("finished")
        record["waited_us"] = (began - record.pop("queued")) * 1e6
        name, row = f"walker {record['walker']}", record.pop("worker") + 1
        events.append(_event(name, record["outcome"], row, began, ended, record))
    return events


def _event(
    name: str, category: str, row: int, began: float, ended: float, arguments: dict[str, Any]
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": _PROCESS,
        "tid": row,
        "ts": began * 1e6,
        "dur": (ended - began) * 1e6,
        "args": arguments,
    }
    if category in ("failed", "died"):
        event["cname"] = "terrible"  # red, in chrome://tracing
    return event
