"""Cells of a notebook, named as IPython's own tracebacks name them: ``Cell In[3]``.

IPython compiles each cell under an invented file name, which tells the user nothing.
"""

from __future__ import annotations

import sys
from traceback import TracebackException


def cell_or_file(filename: str) -> str:
    """The cell whose code has this file name, or the file name itself."""
    find_shell = getattr(sys.modules.get("IPython"), "get_ipython", None)
    compiler = getattr(find_shell and find_shell(), "compile", None)
    label = getattr(compiler, "format_code_name", None)  # IPython 7 has none
    return " ".join((label and label(filename)) or [filename])


def format_traceback(error: BaseException) -> str:
    """As ``traceback.format_exception``, but frames of a notebook name their cell."""
    exception = TracebackException.from_exception(error)  # reads the lines of source as well
    if "IPython" in sys.modules:
        _name_cells(exception)
    return "".join(exception.format())


def _name_cells(exception: TracebackException) -> None:
    for frame in exception.stack:
        frame.filename = cell_or_file(frame.filename)
    group: list[TracebackException] = getattr(exception, "exceptions", None) or []
    for related in (exception.__cause__, exception.__context__, *group):
        if related is not None:
            _name_cells(related)
