"""Runs of a parameter study: spawn, poll, wait, cancel."""

from __future__ import annotations

from ringwalk.runners.attempt import Outcome, RunFailure
from ringwalk.runners.base import Runner
from ringwalk.runners.fork import ForkRunner
from ringwalk.runners.local import LocalRunner
from ringwalk.runners.pool import PoolRunner

__all__ = ["ForkRunner", "LocalRunner", "Outcome", "PoolRunner", "RunFailure", "Runner"]
