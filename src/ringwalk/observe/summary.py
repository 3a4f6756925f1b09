"""What a timeline says in figures: where the workers' time went.

    map          |lead| segment |gap| segment |         tail         |finale|
    worker 0     .....XXXXXXXXXX.....XXXXXXXXX.......................|......|
    worker 1     .....XXXXXXXXXXXXXXXX....XXXXXXXXXXXXXXXXXXXXXXXXXXX|......|

Lead, gaps and finale are overhead, the tail is imbalance: its worker had nothing left to take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ringwalk.observe.timeline import Timeline

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Summary:
    """Where the time went. Seconds of worker time, unless said otherwise.

    Attributes:
        wall: of the clock, from the first map's begin to the last one's end.
        between: of the clock, when no map ran.
        available: number of workers times the clock time of maps.
        busy: in attempts.
        overhead: no attempt, though there was work: begin of a map, between two, end of a map.
        tail: no attempt, since nothing was left to take.
        lost: in attempts that died.
        worker_use: each worker's share of map time in attempts.
        device_use: each device's share of map time in which an attempt ran on it.
        imbalance: busiest worker over the mean, minus 1 (percent imbalance metric of Pearce et
            al., "Quantifying the effectiveness of load balance algorithms", ICS 2012), mean over
            the maps by their time.
        segment: an attempt's median.
        longest: the longest attempt.
    """

    wall: float
    between: float
    available: float
    busy: float
    overhead: float
    tail: float
    lost: float
    worker_use: Floats
    device_use: dict[str, float]
    imbalance: float
    segment: float
    longest: float
    walkers: int
    maps: int
    died: int
    failed: int
    bytes_in: int
    bytes_out: int
    copies: int

    @classmethod
    def of(cls, timeline: Timeline) -> Summary:
        """Raises nothing: an empty timeline has a summary of zeros."""
        records = timeline.records
        took = records["finished"] - records["started"]
        lengths = timeline.spans[:, 1] - timeline.spans[:, 0]
        inside = float(lengths.sum())
        tails, imbalances = _ends(timeline)
        busy = float(took.sum())
        available = timeline.workers * inside
        most = int(records["walker"].max(initial=0)) + 1
        walkers = len(np.unique(_map_of(timeline) * most + records["walker"]))
        died = records["outcome"] == "died"
        use = np.bincount(records["worker"], took, timeline.workers)
        return cls(
            wall=timeline.seconds,
            between=max(0.0, timeline.seconds - inside),
            available=available,
            busy=busy,
            overhead=max(0.0, available - busy - tails),
            tail=tails,
            lost=float(took[died].sum()),
            worker_use=use / (inside or 1),
            device_use={
                device: _device_seconds(timeline, number) / (inside or 1)
                for number, device in enumerate(timeline.devices)
            },
            imbalance=float(imbalances @ lengths / (inside or 1)),
            segment=float(np.median(took)) if len(took) else 0.0,
            longest=float(took.max(initial=0.0)),
            walkers=walkers,
            maps=len(timeline.spans),
            died=int(died.sum()),
            failed=int((records["outcome"] == "failed").sum()),
            bytes_in=int(records["bytes_in"].sum()),
            bytes_out=int(records["bytes_out"].sum()),
            copies=int(records["copies"].max(initial=0)),
        )

    def share(self, seconds: float) -> float:
        """Of the worker time of maps."""
        return seconds / self.available if self.available else 0.0

    @property
    def overhead_per_walker(self) -> float:
        return self.overhead / self.walkers if self.walkers else 0.0


def _map_of(timeline: Timeline) -> npt.NDArray[np.int64]:
    """Position in ``spans`` of each record's map; a failed map's cycle comes a second time."""
    begins = timeline.spans[:, 0]
    return np.searchsorted(begins, timeline.records["started"], "right") - 1


def _ends(timeline: Timeline) -> tuple[float, Floats]:
    """Worker seconds in tails, and each map's imbalance."""
    records = timeline.records
    number = _map_of(timeline)
    tails, imbalances = 0.0, np.zeros(len(timeline.spans))
    for k, (began, _) in enumerate(timeline.spans):
        chosen = records[number == k]
        if not len(chosen):
            continue
        last = np.full(timeline.workers, began)
        np.maximum.at(last, chosen["worker"], chosen["finished"])
        tails += float((last.max() - last).sum())
        busy = np.bincount(chosen["worker"], chosen["finished"] - chosen["started"])
        mean = busy.sum() / timeline.workers
        imbalances[k] = busy.max() / mean - 1 if mean else 0.0
    return tails, imbalances


def _device_seconds(timeline: Timeline, device: int) -> float:
    """Of the clock, in which at least one attempt ran on a device."""
    chosen = timeline.records[timeline.records["device"] == device]
    if not len(chosen):
        return 0.0
    order = np.argsort(chosen["started"], kind="stable")
    began, ended = chosen["started"][order], np.maximum.accumulate(chosen["finished"][order])
    covered = np.minimum(ended[:-1], began[1:])  # what lies open between two is not counted
    return float(ended[-1] - began[0] - (began[1:] - covered).sum())
