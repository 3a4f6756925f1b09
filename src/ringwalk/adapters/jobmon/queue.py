"""Queues of a ringwalk cluster: as those of Jobmon's multiprocess clusters."""

from __future__ import annotations

from jobmon.plugins.multiprocess.multiproc_queue import MultiprocessQueue


class RingwalkQueue(MultiprocessQueue):  # type: ignore[misc]
    """A queue of the database, with the limits of cores that its row sets."""
