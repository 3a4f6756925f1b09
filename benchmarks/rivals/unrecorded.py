"""Ringwalk itself without what it keeps for timelines: what recording costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from ringwalk.mappers import base, transaction


class _Nothing:
    """Takes the place of a map's history, and of a wave in it."""

    def __init__(self) -> None:
        self.waves = self

    def __call__(self, *_: object) -> _Nothing:
        return self

    keep = queue = over = end = append = begin = __call__


@contextmanager
def unrecorded() -> Iterator[None]:
    """While it lasts, maps keep nothing of what ran where and when."""
    nothing = _Nothing()
    with (
        patch.object(base, "History", nothing),
        patch.object(transaction, "Wave", nothing),
    ):
        yield
