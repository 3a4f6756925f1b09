"""Run by a fresh interpreter to become a supervisor, on the standard library and this package.

Neither the folders of other packages are on its path nor is the caller's side of this one imported,
which a process that only starts commands has no use for. So the packages are entered by bare
modules in their names, with the same folders behind.

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
