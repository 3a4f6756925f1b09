"""Which commands a template may fork.

A command is recognised if it starts this very Python (``python -m module``), or a script that does
and imports one of the modules (a console script), and if the module is one that the template has
imported. Everything else is executed afresh, which is always right.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ringwalk.distributors.launch import Task

# A shell makes nothing of such a line but words; the first is no assignment.
_PLAIN = re.compile(r"[\w@%+:,./-]+( +[\w@%+=:,./-]+)*")
_IMPORT = re.compile(rb"^\s*(?:from|import)\s+([\w.]+)", re.MULTILINE)
# Read by the interpreter, the C library and numerical libraries when they start.
_EARLY = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_", "OMP_", "OPENBLAS_", "MKL_", "TZ")
_SCRIPT_BYTES = 4096  # a console script has a few hundred


class Program(NamedTuple):
    """What a template's fork has to become.

    Attributes:
        module: what follows ``-m``; None if ``argv[0]`` is a script.
        entry: what the interpreter would put first on ``sys.path``.
    """

    argv: list[str]
    module: str | None
    entry: str


def recognise(task: Task, env: Mapping[str, str], modules: Sequence[str]) -> Program | None:
    """The command as a program for a template that has imported ``modules``; None if it is none."""
    job = task.job
    if any(name.startswith(_EARLY) for name in job.extra):
        return None
    if isinstance(job.command, str):
        if not _PLAIN.fullmatch(job.command.strip()):
            return None
        argv = job.command.split()
    else:
        argv = job.command
    path = argv[0]
    if "/" not in path:
        path = shutil.which(path, path=env.get("PATH", os.defpath)) or ""
    path = os.path.join(job.cwd, path)
    if _is_this_python(path):
        if len(argv) > 2 and argv[1] == "-m" and {argv[2], f"{argv[2]}.__main__"} & {*modules}:
            return Program(argv, argv[2], job.cwd)
        return None
    if _imports(path, modules):
        return Program([path, *argv[1:]], None, os.path.dirname(os.path.realpath(path)))
    return None


def _is_this_python(path: str) -> bool:
    # Not by the file alone: an environment's python is often a link to the one it is made from.
    with contextlib.suppress(OSError):
        here = os.path.dirname(sys.executable)
        return os.path.dirname(path) == here and os.path.samefile(path, sys.executable)
    return False


def _imports(path: str, modules: Sequence[str]) -> bool:
    """Whether this is a script for this Python that imports one of the modules."""
    try:
        with open(path, "rb") as file:
            text = file.read(_SCRIPT_BYTES)
    except OSError:
        return False
    first, _, rest = text.partition(b"\n")
    if not first.startswith(b"#!") or not _is_this_python(os.fsdecode(first[2:].strip())):
        return False
    return any(name.decode() in modules for name in _IMPORT.findall(rest))
