"""Segments that rivals import in processes of their own: by this module's name, not a benchmark's.

pytest imports a benchmark under another name than the one by which a fresh process would find it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def add_one(array: Array) -> Array:
    return array + 1.0
