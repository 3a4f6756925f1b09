"""Futures on the pool of the mappers: an executor of the standard library's kind."""

from __future__ import annotations

from ringwalk.futures.executor import Executor
from ringwalk.futures.future import Future

__all__ = ["Executor", "Future"]
