"""The ``ringwalk`` command."""

from __future__ import annotations

from ringwalk.cli.main import main

__all__ = ["main"]
