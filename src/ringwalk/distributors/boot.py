"""Run by a fresh interpreter to become a supervisor, without what ``import ringwalk`` brings.

The mappers import numpy: 0.25 s and 20 MB that a process which only starts commands has no use
for. So the packages are entered by bare modules in their names, with the same folders behind.

    boot.py <settings as JSON>
"""

from __future__ import annotations

import sys
import types
from pathlib import Path


def main() -> None:
    here = Path(__file__).parent
    for name, folder in ("ringwalk", here.parent), ("ringwalk.distributors", here):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    from ringwalk.distributors.supervisor import supervise

    supervise(sys.argv[1])


if __name__ == "__main__":
    main()
