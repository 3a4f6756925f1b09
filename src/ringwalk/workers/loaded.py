"""BLAS and OpenMP in this process, looked for again only after something was loaded."""

from __future__ import annotations

from threadpoolctl import ThreadpoolController

from ringwalk._core.process import libraries_loaded

# What was found in this process, and how many libraries had been loaded then.
_thread_pools: ThreadpoolController | None = None
_searched_at = -1


def thread_pools() -> ThreadpoolController:
    """The libraries that compute with threads of their own. To look for them takes up to 20 ms."""
    global _thread_pools, _searched_at
    loaded = libraries_loaded()
    if _thread_pools is None or loaded != _searched_at:
        _thread_pools, _searched_at = ThreadpoolController(), loaded
    return _thread_pools
