"""``ringwalk demo``: a checked weighted-ensemble run that needs nothing but the core."""

from __future__ import annotations

from ringwalk.demo.run import CYCLES, SEED, WALKERS, Settings, demo

__all__ = ["CYCLES", "SEED", "WALKERS", "Settings", "demo"]
