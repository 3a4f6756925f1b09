"""Text for values of the user's, whose ``__str__`` and ``__repr__`` may do anything.

A message about a failed walker must not fail itself: the other walkers' results would be lost.
"""

from __future__ import annotations


def text_of(error: BaseException) -> str:
    """``str(error)``, or what that raised."""
    try:
        return str(error)
    except (Exception, SystemExit) as broken:
        return f"<its __str__ raised {type(broken).__name__}>"


def shown(value: object, longest: int = 60) -> str:
    """``repr(value)``, cut to ``longest`` characters, or what that raised."""
    try:
        text = repr(value)
    except (Exception, SystemExit) as broken:
        return f"<a {type(value).__name__} whose __repr__ raised {type(broken).__name__}>"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
