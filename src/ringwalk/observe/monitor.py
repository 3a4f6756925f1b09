"""Monitor: what a mapper lays out for ``ringwalk top`` to find.

A memfd with a few facts as JSON: where the mapper's shared memory is open, and what its map is. It
has no name, so nothing can be left behind, however the process ends; ``/proc/<pid>/fd`` leads to
it, for the same user alone. It is written as a map begins and ends, and as processes come and go;
what the workers do is read from the memory in which they do it.
"""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Mapping
from typing import Any

MEMFD = "ringwalk-monitor"


class Monitor:
    """The parent's side.

    Args:
        facts: what does not change: see ``ringwalk.observe.attach.Facts``.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._fd = os.memfd_create(MEMFD, os.MFD_CLOEXEC)
        self._finalizer = weakref.finalize(self, os.close, self._fd)
        self._line: dict[str, Any] = {
            **facts,
            "total": 0,
            "before": 0,
            "cycle": 0,
            "started": "",
            "pids": {},
            "stuck": {},
        }
        self._write()

    def begin(self, cycle: int, total: int, before: int, started: str) -> None:
        """A map of ``total`` walkers begins; the board has counted ``before`` tasks so far.

        Args:
            started: how the processes that run it were started, and why.
        """
        self._line.update(cycle=cycle, total=total, before=before, started=started, stuck={})
        self._write()

    def staff(self, pids: Mapping[int, int]) -> None:
        """These processes run it: worker -> process id."""
        if self._line["pids"] != pids:
            self._line["pids"] = dict(pids)
            self._write()

    def stuck(self, where: Mapping[int, str]) -> None:
        """These workers can never go on: worker -> in what each waits."""
        self._line["stuck"] = dict(where)
        self._write()

    def rest(self) -> None:
        """No map runs."""
        self._line.update(total=0, stuck={})
        self._write()

    def close(self) -> None:
        """Be found no more. Idempotent."""
        self._finalizer()

    def _write(self) -> None:
        os.pwrite(self._fd, json.dumps(self._line).encode() + b"\n", 0)
