"""Watching a run: timelines of maps, as arrays, traces, figures and reports."""

from __future__ import annotations

from ringwalk.observe.timeline import RECORD, Memory, Timeline

__all__ = ["RECORD", "Memory", "Timeline"]
