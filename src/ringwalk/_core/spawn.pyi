# Programs started without a copy of this process.

from collections.abc import Iterable
from typing import final

def snapshot() -> list[bytes]: ...

@final
class Strings:
    def __new__(cls, strings: Iterable[bytes]) -> Strings: ...

@final
class Child:
    @property
    def pid(self) -> int: ...
    def __new__(
        cls,
        paths: Strings,
        argv: Strings,
        environment: Strings | None,
        extra: list[bytes],
        folder: bytes | None,
        streams: tuple[int | bytes | None, ...],
        wait: bool,
    ) -> Child: ...
    def fileno(self) -> int: ...
    def failure(self) -> OSError | None: ...
    def close(self) -> None: ...
