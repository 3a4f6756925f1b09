from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

import numpy.typing as npt

_Row = TypeVar("_Row")

@final
class RowMover(Generic[_Row]):
    def __new__(
        cls,
        front: npt.NDArray[Any],
        back: npt.NDArray[Any],
        stride: int,
        make: Callable[[Any, int], _Row],
        columns: Any,
    ) -> RowMover[_Row]: ...
    def __call__(self, index: int) -> _Row: ...
