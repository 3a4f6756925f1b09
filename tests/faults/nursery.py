"""Forks programs that are to be killed: nursery.py PROGRAM.

For each line on standard input, forks a process that leads a session of its own and runs the
``main`` of PROGRAM with the words of the line; prints its pid, and its wait status when it has
ended. What PROGRAM imports is imported once, so a thousand of them take minutes, not an hour.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import NoReturn


def run(main: object, words: list[str]) -> NoReturn:
    try:
        os.setsid()
        print(os.getpid(), flush=True)
        main(*words)  # type: ignore[operator]
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)  # it is meant to be killed


def serve() -> None:
    main = runpy.run_path(sys.argv[1])["main"]
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(main, line.split())
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
