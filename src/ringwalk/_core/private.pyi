# Private copies of shared buffers, of which only the pages that are written get copied.

from typing import Any, final

from ringwalk._core.heap import HeapView

@final
class PrivateCopy:
    def __new__(cls, source: HeapView) -> PrivateCopy: ...
    def __len__(self) -> int: ...
    # By the C slot; the interpreter shows the method from 3.12.
    def __buffer__(self, flags: int, /) -> memoryview: ...

def restore(buffers: list[Any]) -> None: ...
