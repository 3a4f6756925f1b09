"""The mapper contract, as for the mappers of one machine: the same tests over an engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_FILES = ("test_contract.py", "test_block_maps.py", "test_life.py")

for _file in _FILES:
    _path = Path(__file__).parents[1] / "mappers" / _file
    _name = f"mapper_{_path.stem}"
    _spec = importlib.util.spec_from_file_location(_name, _path)
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules[_name] = _module  # where the nodes find its segment functions
    _spec.loader.exec_module(_module)
    # Those that take any_mapper get the one of this folder.
    _tests = {
        name: test
        for name, test in vars(_module).items()
        if name.startswith("test_") and "any_mapper" in test.__annotations__
    }
    assert _tests, f"no test of {_file} is for any mapper"
    globals().update(_tests)
