"""How many walkers go in the next batch: a moment's work, and a fair share of what is left.

Short batches travel together, as a load, because a call of the engine costs more than they do.
"""

from __future__ import annotations

import math

TARGET_S = 0.1
"""What a batch should take on its node: long against its way there and back, short in a map."""

AHEAD = 2
"""Calls under way for each node: one is run while the next one travels."""

LEAST_S, MOST_S = 0.005, 0.05
"""What a load of several batches should take: hardly less than its call of the engine costs."""

MOST_BYTES = 64 << 20
"""A batch is closed when it holds so much."""

MOST_WALKERS = 1 << 16  # what a pool's task table can hold


class Cutter:
    """Learns from what came back how long a walker takes.

    Args:
        nodes: that share a map.
        fixed: walkers in every batch, if the user says so.
    """

    def __init__(self, nodes: int, fixed: int | None) -> None:
        self._nodes = nodes
        self._fixed = fixed
        self._seconds: float | None = None  # of a walker
        self.workers = 1  # of the largest node

    def learn(self, walkers: int, seconds: float) -> None:
        """A load of so many walkers took its node so long."""
        fresh = seconds / walkers
        known = fresh if self._seconds is None else self._seconds
        self._seconds = min(fresh, (known + fresh) / 2)  # a pool's first batches are slow

    @property
    def credits(self) -> int:
        """How many calls of the engine may be under way."""
        return self._nodes * AHEAD

    def size(self, left: int) -> int:
        """Walkers of the next batch, of ``left`` that no batch has taken yet."""
        if self._fixed is not None:
            return min(self._fixed, left, MOST_WALKERS)
        # A node runs one batch at a time: one for each of its workers, unless others would starve.
        least = min(self.workers, math.ceil(left / self._nodes))
        if self._seconds is None:
            return least
        share = math.ceil(left / (self._nodes * AHEAD))
        by_time = int(TARGET_S / max(self._seconds, TARGET_S / MOST_WALKERS))
        return max(least, min(share, by_time))

    def load(self, left: int, calls: int) -> tuple[int, int]:
        """Walkers of the next load, and of each of its batches.

        Args:
            left: walkers that no load has taken yet.
            calls: of the engine that may be made now, this one included.
        """
        size = self.size(left)
        if self._seconds is None:
            return size, size
        batch_s = max(self._seconds * size, MOST_S / MOST_WALKERS)
        batches = math.ceil(left / size)
        most = min(int(MOST_S / batch_s), MOST_WALKERS // size)
        wanted = max(1, min(most, max(math.ceil(batches / calls), int(LEAST_S / batch_s))))
        loads = math.ceil(batches / wanted)  # of the same size, rather than a small one at the end
        return min(left, math.ceil(batches / loads) * size), size
