"""From Ringwalk's errors to those that wepy code catches: wepy's own classes.

``__cause__`` is Ringwalk's error, which says more: the walker, the signal, and the results of the
walkers that did finish.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from wepy.work_mapper.mapper import TaskException, WrapperException

from ringwalk.errors import MapError, SegmentError

logger = logging.getLogger(__name__)


@contextmanager
def as_wepy(process_exception: type[WrapperException]) -> Iterator[None]:
    """Raise ``TaskException`` for a segment that raised, ``process_exception`` for all else."""
    try:
        yield
    except MapError as error:
        # Not the error itself: a handler may keep the record, and with it the results.
        logger.critical("%s", str(error))
        raise _translated(error, process_exception) from error


def _translated(error: MapError, process_exception: type[WrapperException]) -> WrapperException:
    kind = TaskException if isinstance(error, SegmentError) else process_exception
    translated = kind(str(error), wrapped_exception=error.__cause__ or error)
    if isinstance(error, SegmentError):
        translated.formatted_tb = error.remote_traceback.splitlines(keepends=True)
    return translated
