"""What a check of ``ringwalk doctor`` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "absent", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        subject: what was looked at.
        state: ``absent`` is no fault; a ``warning`` costs speed or will bite some day; with a
            ``problem`` something does not work.
        found: what was seen.
        remedy: what to do about a warning or problem.
    """

    subject: str
    state: State
    found: str
    remedy: str = ""
