from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

import numpy.typing as npt

_Row = TypeVar("_Row")

@final
class RowMover(Generic[_Row]):
    def __init__(
        self,
        front: npt.NDArray[Any],
        back: npt.NDArray[Any],
        stride: int,
        make: Callable[[Any, int], _Row],
        columns: Any,
    ) -> None: ...
    def __call__(self, index: int) -> _Row: ...
