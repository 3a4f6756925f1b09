"""Leadership: of the threads that wait for an engine's tasks, one leads and the others follow.

A thread may be interrupted anywhere: it leads no longer then, and the others hear of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ringwalk._core.process import Undisturbed
from ringwalk.futures.bell import Bell


class Leadership:
    """Who leads.

    Args:
        hand_over: called by each thread that leads no longer.
    """

    def __init__(self, hand_over: Callable[[], None]) -> None:
        self._hand_over = hand_over
        self._lead = threading.RLock()  # a signal handler may lead, too
        self._leader: int | None = None  # the thread that has it
        self._followers = Bell()
        self._wanting: set[object] = set()  # who waits to lead once: nobody else begins to

    @property
    def vacant(self) -> bool:
        """Whether no thread leads."""
        return self._leader is None

    @property
    def wanted(self) -> bool:
        """Whether who leads shall leave, for another thread wants to."""
        return bool(self._wanting)

    def try_to_lead(self, tend: Callable[[], None]) -> bool:
        """Call ``tend`` as the leader, unless another thread leads."""
        # In a callback, or in a signal handler, this thread may lead already.
        nested = self._leader == threading.get_ident()
        if self._wanting and not nested:
            return False
        leads = False
        try:
            with Undisturbed():
                leads = self._lead.acquire(blocking=False)
            if leads:
                self._leader = threading.get_ident()
                tend()
        finally:
            if leads:
                self._leader = threading.get_ident() if nested else None
                self._lead.release()
                self._followers.ring()
                self._hand_over()
        return leads

    def follow(self, done: Callable[[], bool], deadline: float | None) -> None:
        """Wait until it is worth a look whether ``done()``, or whether nobody leads."""
        # The leader rings after it let go: we hear it, or see it gone.
        self._followers.wait(
            lambda: (self._leader is None and not self._wanting) or done(),
            None if deadline is None else deadline - time.monotonic(),
        )

    def ring(self) -> None:
        """Tell those that follow that there is news."""
        self._followers.ring()

    def lead_once(self, stop: Callable[[], None], act: Callable[[], None]) -> None:
        """Have ``stop`` tell the leader to leave, and call ``act`` when it has."""
        token = object()
        try:
            self._wanting.add(token)
            stop()
            with self._lead:
                act()
        finally:
            self._wanting.discard(token)  # first: interrupted here, others have to be able to lead
            self._followers.ring()
            self._hand_over()
