"""What Ringwalk's mappers can do that wepy's cannot: keyword options, all with defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, SupportsIndex

from ringwalk.memory.buffers import Inputs
from ringwalk.observe.progress import Progress


@dataclass(frozen=True, slots=True)
class Options:
    """Taken by ``WorkerMapper`` and ``TaskMapper`` beside wepy's own arguments.

    Attributes:
        seed: gives each (walker, cycle) its own random streams (``random``, ``np.random``, and a
            ``Generator`` where ``run_segment`` names a parameter ``rng``), the same for any number
            of workers and after any retry. OpenMM integrators are seeded from them.
        max_retries: how often a segment whose process died is run again.
        timeout: seconds a segment may run.
        inputs: "copy" gives segments private copies of the walkers' arrays; "readonly" gives
            arrays that refuse writing, which saves a copy of those that clones share.
        progress: True draws a bar of each cycle's walkers on stderr, where that is a terminal; a
            function is called with (finished, all).
        monitor: let ``ringwalk top`` of the same user show what the workers do.
    """

    seed: SupportsIndex | None = None
    max_retries: int = 1
    timeout: float | None = None
    inputs: Inputs = "copy"
    progress: Progress | bool | None = None
    monitor: bool = False

    def engine(self) -> dict[str, Any]:
        """As keyword arguments of Ringwalk's mappers."""
        return {
            "seed": self.seed,
            "max_retries": self.max_retries,
            "timeout": self.timeout,
            "inputs": self.inputs,
            "progress": self.progress,
            "monitor": self.monitor,
        }
