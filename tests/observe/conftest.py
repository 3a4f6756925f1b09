"""Timelines whose figures are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure

from ringwalk.observe.timeline import RECORD, Memory, Timeline

Bar = tuple[int, int, float, float, str]  # walker, worker, started, finished, outcome


@pytest.fixture
def fake() -> Callable[..., Timeline]:
    def make(
        bars: Sequence[Bar],
        *,
        workers: int,
        end: float,
        spans: Sequence[tuple[float, float]] = (),
        devices: tuple[str, ...] = (),
        mapper: str = "WorkerMapper",
        memory: Memory = Memory(),  # noqa: B008  # frozen
        **columns: int,
    ) -> Timeline:
        records = np.zeros(len(bars), RECORD)
        names = ("walker", "worker", "started", "finished", "outcome")
        for name, values in zip(names, zip(*bars, strict=True), strict=False):
            records[name] = values
        for name, value in columns.items():
            records[name] = value
        records["device"] = records["worker"] % len(devices) if devices else -1
        records.sort(order="started")
        of_maps = np.array(spans or [(0.0, end)])
        return Timeline(records, of_maps, workers, devices, 100.0, mapper, memory)

    return make


@pytest.fixture(scope="session")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have matplotlib open its fonts now: it keeps them, and no test has left them behind."""
    Figure().suptitle("text").figure.savefig(tmp_path_factory.mktemp("fonts") / "figure.png")
