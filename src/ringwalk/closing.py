"""What holds something until it is closed, and can do so for the time of a ``with`` block."""

from __future__ import annotations

from typing import Self


class Closing:
    """Base of classes with an idempotent ``close``: a ``with`` block ends with it."""

    __slots__ = ()

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
