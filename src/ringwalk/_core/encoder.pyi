from collections.abc import Container
from typing import Any, final

import numpy.typing as npt

@final
class Encoder:
    def __new__(cls, out_of_band_from: int, others: Container[type] = ()) -> Encoder: ...
    def dumps(self, value: object, head: bytes, large: list[npt.NDArray[Any]]) -> bytes | None: ...
