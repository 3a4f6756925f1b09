"""Failure: what a worker says of a segment that did not work, and the error that becomes of it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import Literal

from ringwalk.describe import text_of
from ringwalk.errors import MapError, RemoteTraceback, SegmentError, TransferError, UnpicklableError
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
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        return cls(stage, _travelling(error), name, text_of(error), formatted)

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
            original = _unpickled(self.pickled)
        if original is None:
            original = UnpicklableError(
                f"{self.type_name}: {self.text} (the exception itself could not be pickled)"
            )
        if original.__cause__ is None:
            original.__cause__ = RemoteTraceback(self.formatted_traceback)
        return original


def _travelling(error: BaseException) -> bytes | None:
    """The pickled exception if it also unpickles: many with own __init__ signatures do not."""
    try:
        pickled = pickle.dumps(error)
    except (Exception, SystemExit):  # a user's __reduce__ may do anything
        return None
    return pickled if _unpickled(pickled) is not None else None


def _unpickled(pickled: bytes) -> BaseException | None:
    try:
        error = pickle.loads(pickled)
    except (Exception, SystemExit):  # a user's __init__ or __setstate__ may do anything
        return None
    return error if isinstance(error, BaseException) else None
