# Arena: the one sparse, nameless file that a pool's processes share.

from typing import final

@final
class Arena:
    @staticmethod
    def create(size: int) -> Arena: ...
    @staticmethod
    def attach(fd: int) -> Arena: ...  # the descriptor belongs to the new handle
    @property
    def size(self) -> int: ...
    def fileno(self) -> int: ...
    def reserve(self, offset: int, length: int) -> None: ...
