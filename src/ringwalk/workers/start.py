"""How a pool's processes start: what was asked for, what was chosen, and why."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from ringwalk.describe import text_of
from ringwalk.errors import RingwalkWarning
from ringwalk.workers.fork_safety import why_not_fork
from ringwalk.workers.launch import StartMethod

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """A choice that was made for one template.

    Attributes:
        method: never "auto".
        reason: what makes a fork of this process unsafe, where that was looked for and found.
        pickled: the setup, for a fresh interpreter.
    """

    method: StartMethod
    reason: str | None = None
    pickled: bytes = b""

    def __str__(self) -> str:
        return self.method if self.reason is None else f"{self.method} ({self.reason})"


def choose(asked: StartMethod, pickle_all: Callable[[], bytes]) -> Start:
    """Fork where that is safe, else a fresh interpreter; what was asked for, if it is not "auto".

    ``pickle_all`` gives what must travel to a fresh interpreter.

    Warns where what must travel cannot be pickled, and the choice is a fork all the same. Raises
    what pickling raises for "spawn" and "forkserver".
    """
    if asked == "fork":
        return Start("fork")
    if asked != "auto":
        return Start(asked, pickled=pickle_all())
    reason = why_not_fork()
    if reason is None:
        return Start("fork")
    try:
        pickled = pickle_all()
    except Exception as error:  # pickling runs user code
        why = f"what they need cannot be pickled for a fresh interpreter ({text_of(error)})"
        warn_of_fork(reason, why, "make it picklable")
        return Start("fork", reason)
    logger.info("workers start in a fresh interpreter: this process has %s", reason)
    return Start("spawn", reason, pickled)


def warn_of_fork(reason: str, because: str, way_out: str) -> None:
    """Say that a process is forked although that is not safe."""
    warnings.warn(
        f"this process has {reason}, and workers are forked from it although they may hang as soon "
        f"as they use the same library: {because}. Use the library in the workers only, start the "
        f"workers before it is first used here, or {way_out}",
        RingwalkWarning,
        stacklevel=2,
    )
