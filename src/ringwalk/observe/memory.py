"""How much memory processes had at most, as the kernel counted it."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")


def peak_of(process: int | str, *, proc: Path = PROC) -> int:
    """Bytes that a process had resident at most (VmHWM); 0 for one that has ended or is hidden."""
    return _status(process, "VmHWM", proc)


def resident_of(process: int | str, *, proc: Path = PROC) -> int:
    """Bytes that a process has resident now (VmRSS); 0 for one that has ended or is hidden."""
    return _status(process, "VmRSS", proc)


def _status(process: int | str, field: str, proc: Path) -> int:
    try:
        text = (proc / str(process) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024  # "kB" there means KiB
    return 0
