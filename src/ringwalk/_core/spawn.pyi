# Programs started without a copy of this process.

from collections.abc import Iterable
from typing import final

def snapshot() -> list[bytes]: ...

@final
class Strings:
    def __init__(self, strings: Iterable[bytes]) -> None: ...

@final
class Child:
    pid: int
    def __init__(
        self,
        paths: Strings,
        argv: Strings,
        environment: Strings | None,
        extra: list[bytes],
        folder: bytes | None,
        streams: tuple[int | bytes | None, ...],
        wait: bool,
    ) -> None: ...
    def fileno(self) -> int: ...
    def failure(self) -> OSError | None: ...
    def close(self) -> None: ...
