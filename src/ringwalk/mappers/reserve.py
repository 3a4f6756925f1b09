"""The workers beyond one a core: they sleep on when a map begins, until it shows a use for them.

As many as there are cores are woken with the first tasks. Segments that compute keep these cores
busy, and each further worker costs the map time to wake and to load it. Segments that wait, for a
disk, a GPU, a program, leave the cores idle, and then all workers are wanted. Nobody can tell from
outside which it is, so the parent looks at how far the map has come: the others are woken when what
is left would take longer than waking them, and after a tenth of a second in any case.

Does not: matter where there are no more workers than cores.
"""

from __future__ import annotations

import math
import time

from ringwalk.workers.plan import Workspace

# The first look after the shortest sleep of a poll, each further one after twice that of the last.
_LOOK_S = 1e-3
_LATEST_S = 0.1
# Processor time for a worker to wake, load a map and sleep again; measured, of rows and numbers.
_WAKING_S = 50e-6


class Reserve:
    """What one wave of tasks leaves asleep; made when its first tasks are handed out.

    Attributes:
        patience: seconds that the parent may sleep until the next look; infinite when there is
            nothing to look for.
    """

    def __init__(self, space: Workspace, count: int) -> None:
        self._board, self._ring = space.board, space.ring
        woken = self._board.most_woken
        self._cost = space.plan.workers * _WAKING_S / woken
        self._done = self._board.done()
        self._since = self._looked = time.monotonic()
        self.patience = _LOOK_S if min(space.plan.workers, count) > woken else math.inf

    def look(self) -> bool:
        """Wake the others if it is time. True: the parent was awake for no other reason."""
        if self.patience == math.inf:
            return False
        now = time.monotonic()
        if now - self._looked >= self.patience:
            self._looked = now
            left, done = len(self._ring), self._board.done() - self._done
            spent = now - self._since
            if left * spent > done * self._cost or spent > _LATEST_S:
                self._board.wake_workers()
                self.patience = math.inf
            else:
                self.patience *= 2
        return True
