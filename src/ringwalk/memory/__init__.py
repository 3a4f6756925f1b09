"""Memory that processes share."""

from __future__ import annotations

import numpy as np

from ringwalk._core.rows import spare
from ringwalk.memory.block import WalkerBlock
from ringwalk.memory.row import Row
from ringwalk.memory.runs import RunTable, Status
from ringwalk.memory.table import Table

__all__ = ["Row", "RunTable", "Status", "Table", "WalkerBlock"]

# Before 2.4, numpy looks at a flag twice to make a scalar of it (numpy/numpy#30389): for the object
# that gets a reference, and for the one that is returned. If another process writes it in between,
# np.True_ or np.False_ has a reference too few, and after the last Python frees what malloc never
# gave: "free(): invalid pointer", mostly at the exit of a process that watched flags of others.
spare(np.True_)
spare(np.False_)
