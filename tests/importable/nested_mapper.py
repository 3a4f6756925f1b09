"""A mapper for a worker of another pool, and segments that end it in each way."""

from __future__ import annotations

import os
import time
from typing import Any

from ringwalk import WorkerMapper
from ringwalk.errors import (
    MapError,
    NodeLostError,
    SegmentError,
    SegmentTimeout,
    TransferError,
    WorkerDied,
)

CASES: dict[str, type[MapError]] = {
    kind.__name__: kind
    for kind in (MapError, SegmentError, SegmentTimeout, TransferError, WorkerDied, NodeLostError)
}
RESULTS = {0: -1}


def fails(walker: int, case: str) -> Any:
    if walker == 0:
        return -1
    match case:
        case "SegmentError":
            return {}["missing"]
        case "SegmentTimeout":
            time.sleep(60)
        case "TransferError":
            return (step for step in range(3))
        case "WorkerDied":
            os._exit(3)
    return None


def map_failing(case: str) -> None:
    """Raises the error of that name; those that only clusters raise, without one."""
    made: MapError | None = None
    if case == "MapError":
        made = MapError("a walker failed", walker=1)
    if case == "NodeLostError":
        made = NodeLostError("a batch is lost", walkers=range(1, 2), host="node", batch=1)
    if made is not None:
        made.results = RESULTS
        raise made
    with WorkerMapper(fails, num_workers=1, max_retries=0, timeout=0.2) as mapper:
        mapper.map(range(2), [case] * 2)
