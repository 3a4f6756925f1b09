"""Memory that processes share."""

from __future__ import annotations

from ringwalk.memory.block import WalkerBlock
from ringwalk.memory.row import Row

__all__ = ["Row", "WalkerBlock"]
