"""Ringwalk itself without what it keeps for timelines: what recording costs."""

from __future__ import annotations

from ringwalk.mappers import base, transaction


class _Nothing:
    """Takes the place of a map's history, and of a wave in it."""

    def __init__(self) -> None:
        self.waves = self

    def __call__(self, *_: object) -> _Nothing:
        return self

    keep = queue = over = end = append = begin = __call__


_RECORDING = base.History, transaction.Wave
_NOTHING = _Nothing()


def record(wanted: bool) -> None:
    """Have the maps from now on keep what ran where and when, or nothing of it."""
    base.History, transaction.Wave = _RECORDING if wanted else (_NOTHING, _NOTHING)
