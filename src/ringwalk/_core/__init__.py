"""The native core: memory that processes share, who does what in it, and the processes.

A module that has a C file under ``ext/csrc`` is a thin Cython layer over it (``consumer`` over that
of ``board``); the C headers state the guarantees. Only ``ringwalk`` itself imports from here: the
modules check indices, not protocols, and may change in any release.

The check below has to be here: this file runs before any extension of the package is looked for,
and the bare "No module named 'ringwalk._core.ring'" tells nobody what to do.
"""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec

__all__: list[str] = []

_EXTENSIONS = (
    *("allocator", "arena", "board", "chain", "consumer", "decoder", "encoder", "event"),
    *("headroom", "heap", "leash", "ownership", "private", "process", "ring", "rows", "spawn"),
    "window",
)

if _missing := [name for name in _EXTENSIONS if find_spec(f"{__name__}.{name}") is None]:
    raise ImportError(
        f"ringwalk's compiled modules ({', '.join(_missing)}) are missing for "
        f"{platform.python_implementation()} {platform.python_version()} on {sys.platform} "
        f"{platform.machine()}. Install a wheel for this platform with 'pip install ringwalk', or "
        "build them in the source tree with 'pip install --editable .' (Linux on x86-64 or "
        "aarch64, a C compiler and Python's headers are needed)."
    )
