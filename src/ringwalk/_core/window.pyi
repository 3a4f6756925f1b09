# Window: address space over a file that may grow under it.

from typing import final

@final
class Window:
    def __new__(cls, fd: int, size: int) -> Window: ...
    @property
    def size(self) -> int: ...
    # By the C slot; the interpreter shows the method from 3.12.
    def __buffer__(self, flags: int, /) -> memoryview: ...
