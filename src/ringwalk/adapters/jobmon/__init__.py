"""Jobmon's cluster type ``ringwalk``, a drop-in for its ``multiprocess``.

Jobmon finds it by ``jobmon.plugins.ringwalk``; see docs/adapters/jobmon.md for how to select it.
Upstream's ``PickableTask`` and ``Consumer`` have no counterpart: no user sees them, and Jobmon
3.7 has dropped them.
"""

from __future__ import annotations

from ringwalk.adapters.jobmon.distributor import RingwalkDistributor
from ringwalk.adapters.jobmon.queue import RingwalkQueue
from ringwalk.adapters.jobmon.worker_node import RingwalkWorkerNode

__all__ = ["RingwalkDistributor", "RingwalkQueue", "RingwalkWorkerNode"]
