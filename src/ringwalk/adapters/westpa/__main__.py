"""Run one of WESTPA's tools with ringwalk among its work managers: ``... w_run --help``."""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec

from ringwalk.adapters.westpa import register


def main(arguments: list[str]) -> None:
    """Run the tool that the first argument names, with the others."""
    tool = arguments[0] if arguments else ""
    packages = ("westpa.cli.core", "westpa.cli.tools")
    found = [f"{package}.{tool}" for package in packages if tool and find_spec(f"{package}.{tool}")]
    if not found:
        raise SystemExit(
            f"{tool!r} is no tool of WESTPA; use: python -m ringwalk.adapters.westpa w_run ..."
        )
    register()
    sys.argv = [tool, *arguments[1:]]
    importlib.import_module(found[0]).entry_point()


if __name__ == "__main__":
    main(sys.argv[1:])
