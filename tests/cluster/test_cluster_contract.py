"""The mapper contract, as for the mappers of one machine: the same tests over an engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_FILE = Path(__file__).parents[1] / "mappers" / "test_contract.py"
_SPEC = importlib.util.spec_from_file_location("mapper_contract", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
_contract = importlib.util.module_from_spec(_SPEC)
sys.modules["mapper_contract"] = _contract  # where the nodes find its segment functions
_SPEC.loader.exec_module(_contract)

# Those that take any_mapper get the one of this folder.
globals().update(
    {
        name: test
        for name, test in vars(_contract).items()
        if name.startswith("test_") and "any_mapper" in test.__annotations__
    }
)
