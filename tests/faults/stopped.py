"""A program whose helper is about to be stopped: stopped.py FRONT START_METHOD THREAD.

Prints the process id of the template, or of the supervisor, and goes on working. THREAD, "main" or
"helper", is the one that starts it; a helper thread has ended by then.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import fronts

from ringwalk.workers.crew import pid_of


def helper_of(front: Any) -> int | None:
    """The process that only this one knows of, and that the others hang on."""
    if sys.argv[1] == "CommandDistributor":
        return int(front._link._process.pid)
    if sys.argv[1] == "WorkerMapper":
        return pid_of(front._pool.crew._template.pidfd)
    return pid_of(front._engine._stream.pool.crew._template.pidfd)


def main() -> None:
    name, method, thread = sys.argv[1:]
    front, use = fronts.open_front(name, method, command="sleep 0.1")

    def begin() -> None:
        front.__enter__()
        use()

    if thread == "main":
        begin()
    else:
        helper = threading.Thread(target=begin)
        helper.start()
        helper.join()
    before = helper_of(front)
    use()
    assert helper_of(front) == before  # the end of the thread was not the helper's
    print(before, flush=True)
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
