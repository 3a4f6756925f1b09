"""What holds something until it is closed, be it by a ``with`` block, or by another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from ringwalk._core.ownership import is_owner, owner_token


class Closing:
    """Base of classes with an idempotent ``close``: a ``with`` block ends with it."""

    __slots__ = ()

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class Room:
    """Where one thread works at a time, with what any thread may close.

    Closing waits until whoever is inside has left; the work has to look at ``closing`` and leave.
    Who closes from inside, as a signal handler may, cannot wait for itself: then it is done as the
    work leaves. In a forked child nobody is inside, whoever was in its parent.

    Attributes:
        closing: somebody wants to close, and somebody is inside.
    """

    LOOK_S = 1.0  # how long the work may wait for anything else before it looks

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._owner = owner_token()
        self._lock = threading.RLock()  # a signal handler may come just before or after the work
        self._thread: int | None = None  # that is inside
        self.closing = False

    def _own(self) -> None:
        if not is_owner(self._owner):
            self._clear()

    @contextmanager
    def inside(self, close: Callable[[], None]) -> Iterator[None]:
        """Work; ``close`` at the end of it if somebody wanted that meanwhile."""
        self._own()
        with self._lock:
            nested = self._thread is not None
            self._thread = threading.get_ident()
            try:
                yield
            finally:
                if not nested:
                    self._thread = None
                    if self.closing:
                        self._close(close)

    def clear(self, close: Callable[[], None]) -> None:
        """Have whoever is inside leave, and ``close``."""
        self._own()
        self.closing = True
        if self._thread != threading.get_ident():
            with self._lock:
                self._close(close)

    def _close(self, close: Callable[[], None]) -> None:
        self.closing = False
        close()
