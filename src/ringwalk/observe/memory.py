"""How much memory processes had at most, as the kernel counted it."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")


def peak_of(process: int | str, *, proc: Path = PROC) -> int:
    """Bytes that a process had resident at most (VmHWM); 0 for one that has ended or is hidden."""
    return _status(process, b"VmHWM", proc)


def resident_of(process: int | str, *, proc: Path = PROC) -> int:
    """Bytes that a process has resident now (VmRSS); 0 for one that has ended or is hidden."""
    return _status(process, b"VmRSS", proc)


def _status(process: int | str, field: bytes, proc: Path) -> int:
    try:
        with open(f"{proc}/{process}/status", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    _, found, rest = text.partition(b"\n" + field + b":")
    return int(rest.split(maxsplit=1)[0]) * 1024 if found else 0  # "kB" there means KiB
