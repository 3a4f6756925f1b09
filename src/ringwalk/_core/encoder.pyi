from collections.abc import Callable, Container, Iterable
from typing import Any, final

import numpy.typing as npt

from ringwalk._core.heap import Heap

def are_light(values: Iterable[object], longest: int) -> bool: ...
def by_name(cls: type, names: tuple[str, ...]) -> bytes | None: ...

@final
class Encoder:
    def __new__(
        cls,
        out_of_band_from: int,
        others: Container[type] = (),
        pickled: Callable[[type, tuple[str, ...]], bytes | None] | None = None,
    ) -> Encoder: ...
    def begin(self) -> None: ...
    def extend(
        self,
        columns: list[Any],
        first: int,
        stop: int,
        most: int,
        lengths: list[int],
        clones: dict[int, tuple[Any, bytes | None]],
    ) -> bytes: ...
    def put(self, value: object, heap: Heap) -> tuple[int, int] | None: ...
    def dumps(self, value: object, large: list[npt.NDArray[Any]]) -> bytes | None: ...
