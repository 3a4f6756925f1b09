"""``ringwalk clean``: what an earlier crash left in shared memory, shown, or removed on ``--yes``.

Only a named block, or one that was being made at that instant, can outlive its process; the next
program that makes a block removes it as well. What belongs to a living process, to another user or
to another container is never touched.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ringwalk.memory.reclaim import find_left, reclaim


def add_clean(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--yes", action="store_true", help="remove it; without, it is only shown")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_clean)


def run_clean(options: argparse.Namespace) -> int:
    """Show, or remove and show; 1 if something is left that was to go."""
    found = {path: _size(path) for path in find_left()}
    removed = reclaim() if options.yes else []
    stays = find_left()
    if options.json:
        names = [{"path": str(path), "bytes": size} for path, size in found.items()]
        print(json.dumps({"found": names, "removed": [str(path) for path in removed]}, indent=2))
    else:
        for path, size in found.items():
            print(f"{path}\t{size}\t{'removed' if path in removed else 'left by a dead process'}")
        if not found:
            print("nothing is left from an earlier crash")
        elif not options.yes:
            print(f"{len(found)} to remove: ringwalk clean --yes")
    return 1 if options.yes and stays else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process has just made a block, and removed it
        return 0
