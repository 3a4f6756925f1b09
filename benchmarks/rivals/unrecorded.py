"""Ringwalk itself without what it keeps for timelines: what recording costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from ringwalk.mappers.history import Wave
from ringwalk.mappers.transaction import Transaction


@contextmanager
def unrecorded() -> Iterator[None]:
    """While it lasts, maps keep neither a copy of the board nor when tasks were handed out."""
    with (
        patch.object(Transaction, "_record", lambda self: None),
        patch.object(Wave, "queue", lambda self, first: None),
    ):
        yield
