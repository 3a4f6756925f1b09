"""``python -m ringwalk``."""

from __future__ import annotations

import sys

from ringwalk.cli import main

if __name__ == "__main__":
    sys.exit(main())
