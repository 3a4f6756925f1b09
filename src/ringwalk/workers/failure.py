"""Failure: what a worker says of a segment that did not work, and the error that becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ringwalk.describe import text_of
from ringwalk.errors import MapError, RemoteTraceback, RingwalkError, SegmentError, TransferError
from ringwalk.exception_chain import (
    pickled_exception,
    type_name,
    unpickled_exception,
)
from ringwalk.notebook import format_traceback

Stage = Literal["start", "argument", "segment", "result"]

_REASONS = {
    "start": "its process could not be started or its worker_init raised",
    "argument": "its arguments could not be unpickled in the worker",
    "result": "its result could not be sent back",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Only strings and bytes, so that it always travels."""

    stage: Stage
    pickled: bytes | None
    type_name: str
    text: str
    formatted_traceback: str

    @classmethod
    def of(cls, error: BaseException, stage: Stage) -> Failure:
        formatted = format_traceback(error)
        pickled = pickled_exception(error)
        return cls(stage, pickled, type_name(error), text_of(error), formatted)

    def to_error(self, walker: int) -> MapError:
        """The error to raise in the parent, with the original as its cause."""
        what = f"{self.type_name}: {self.text}"
        if self.stage == "segment":
            error: MapError = SegmentError(
                f"segment of walker {walker} raised {what}",
                walker=walker,
                remote_traceback=self.formatted_traceback,
            )
        else:
            kind = MapError if self.stage == "start" else TransferError
            error = kind(
                f"segment of walker {walker}: {_REASONS[self.stage]} ({what})", walker=walker
            )
        error.__cause__ = self.original()
        return error

    def original(self) -> BaseException:
        """The exception itself, or a stand-in; the worker's traceback is its cause."""
        original: BaseException | None = None
        if self.pickled is not None:
            original = unpickled_exception(self.pickled)
        if original is None:
            original = RingwalkError.stand_in(self.type_name, self.text)
        if original.__cause__ is None:
            original.__cause__ = RemoteTraceback(self.formatted_traceback)
        return original
