"""Where and on what the figures were taken: a figure without this means nothing."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_DISTRIBUTIONS = (
    *("ringwalk", "numpy", "cloudpickle", "pytest-benchmark"),
    *("wepy", "westpa", "loky", "joblib", "pebble", "mpire", "faster-fifo", "jobmon-core"),
)


def conditions() -> dict[str, Any]:
    """Machine, commit, versions, date and load, as JSON types."""
    return {
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "sources_sha256": _digest_of_sources(),
        "machine": {
            "cpu": _cpu(),
            "cpus": len(os.sched_getaffinity(0)),
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "kernel": platform.release(),
            "load_1min": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _DISTRIBUTIONS},
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str | None:
    """The commit that is checked out; None outside a clone."""
    git = ROOT / ".git"
    if not git.is_dir():
        return None
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    branch = head.removeprefix("ref: ")
    loose = git / branch
    if loose.exists():
        return loose.read_text().strip()
    packed = git / "packed-refs"
    lines = packed.read_text().splitlines() if packed.exists() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {branch}")), None)


def _digest_of_sources() -> str:
    """Tells figures of an edited tree from those of the commit that it is based on."""
    digest = hashlib.sha256()
    for folder in ("src", "ext"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".pyx", ".pxd", ".c", ".h"}:
                digest.update(str(path.relative_to(ROOT)).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
