# Programs started without a copy of this process.

from collections.abc import Iterable
from typing import final

def snapshot(known: list[bytes] | None = None) -> list[bytes]: ...
def handled_signals() -> int: ...
def reap(pid: int) -> tuple[int, tuple[float, float, int]]: ...

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
        handled: int | None = None,
    ) -> Child: ...
    def fileno(self) -> int: ...
    def failure(self) -> OSError | None: ...
    def close(self) -> None: ...
