"""Have the command ``profit run`` end with status 1 if runs failed; proFit itself says 0.

proFit's main function returns nothing and its console script ends with that. The only place after
it is an exit handler, and from there only ``os._exit`` sets the status: so everything that the
interpreter would still do for us is done here first.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ringwalk._core.ownership import is_owner, owner_token
from ringwalk.workers.bootstrap import flush_streams

FAILURE = 1


def fail_at_exit(runner: Any) -> None:
    """Look at the runner's ``failed`` when this process, the command ``profit``, exits."""
    if Path(sys.argv[0]).name != "profit":  # a program that makes a runner itself
        return
    # The runner itself may be collected before, which closes it.
    atexit.register(_look, runner.failed, weakref.ref(runner), owner_token())


def _look(failed: Collection[int], reference: weakref.ref[Any], owner: int) -> None:
    if not failed or not is_owner(owner):
        return
    runner = reference()
    if runner is not None:
        runner.close()
    sys.stderr.write(f"{len(failed)} runs failed: {sorted(failed)}\n")
    logging.shutdown()
    flush_streams()
    os._exit(FAILURE)
