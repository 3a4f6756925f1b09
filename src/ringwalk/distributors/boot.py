"""Run by a fresh interpreter to become a supervisor, without what ``import ringwalk`` brings.

The mappers import numpy: 0.25 s and 20 MB that a process which only starts commands has no use
for. So the package is entered by a bare module in its name, with the same folder behind it.

    boot.py <settings as JSON>
"""

from __future__ import annotations

import sys
import types
from pathlib import Path


def main() -> None:
    package = types.ModuleType("ringwalk")
    package.__path__ = [str(Path(__file__).parents[1])]
    sys.modules["ringwalk"] = package
    from ringwalk.distributors.supervisor import supervise

    supervise(sys.argv[1])


if __name__ == "__main__":
    main()
