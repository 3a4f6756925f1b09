"""Jobmon's cluster type ``ringwalk``: found here by Jobmon, which looks into ``jobmon.plugins``.

Jobmon imports every plugin at every start, whichever cluster is used, and one that fails breaks
all. So nothing is imported before one of the three functions is called. ``jobmon`` and
``jobmon.plugins`` are namespaces that several distributions share: they must have no
``__init__.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringwalk.adapters.jobmon import (
        RingwalkDistributor,
        RingwalkQueue,
        RingwalkWorkerNode,
    )

__version__ = "1"


def get_cluster_queue_class() -> type[RingwalkQueue]:
    from ringwalk.adapters.jobmon import RingwalkQueue

    return RingwalkQueue


def get_cluster_distributor_class() -> type[RingwalkDistributor]:
    from ringwalk.adapters.jobmon import RingwalkDistributor

    return RingwalkDistributor


def get_cluster_worker_node_class() -> type[RingwalkWorkerNode]:
    from ringwalk.adapters.jobmon import RingwalkWorkerNode

    return RingwalkWorkerNode
