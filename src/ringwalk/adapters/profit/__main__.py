"""Print the path for proFit's ``include:``. ``--replace``: the one that needs no other change."""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ringwalk.adapters.profit", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="the file that takes the place of fork, local and memmap",
    )
    name = "replacing.py" if parser.parse_args().replace else "plugin.py"
    print(Path(__file__).with_name(name))


if __name__ == "__main__":
    main()
