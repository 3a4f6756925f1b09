"""Memory that processes share."""

from __future__ import annotations

from ringwalk.memory.block import WalkerBlock
from ringwalk.memory.row import Row
from ringwalk.memory.runs import RunTable, Status
from ringwalk.memory.table import Table

__all__ = ["Row", "RunTable", "Status", "Table", "WalkerBlock"]
