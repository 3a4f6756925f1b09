from typing import Any, Generic, TypeVar, final

import numpy.typing as npt
from typing_extensions import disjoint_base

_Row = TypeVar("_Row", bound=RowBase)

def exchange(word: memoryview[int], expected: int, desired: int) -> int: ...
def spare(thing: object) -> None: ...

@disjoint_base
class RowBase:
    def __init__(self, columns: Any, index: int) -> None: ...
    @property
    def _columns(self) -> Any: ...
    @property
    def _index(self) -> int: ...

@final
class RowMover(Generic[_Row]):
    def __new__(
        cls,
        front: npt.NDArray[Any],
        back: npt.NDArray[Any],
        stride: int,
        kind: type[_Row],
        columns: Any,
        first: int = 0,
    ) -> RowMover[_Row]: ...
    def begin(self, index: int) -> _Row: ...
