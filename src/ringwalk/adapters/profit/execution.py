"""How one run of proFit is executed: in a worker process, or by a command of its own."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from profit.run.worker import Worker

from ringwalk.adapters.profit.interface import RingwalkRunnerInterface, RingwalkWorkerInterface


def environment(runner: Any, run_id: int) -> Mapping[str, str]:
    """What ``profit-worker``, or a program that calls ``Worker.from_env``, must be told."""
    interface = runner.interface.config
    if isinstance(runner.interface, RingwalkRunnerInterface):
        # Every proFit knows this one, with or without our plug-in, and the file is the same.
        interface = {**interface, "class": "memmap"}
    return {
        "PROFIT_RUN_ID": str(run_id),
        "PROFIT_WORKER": json.dumps(runner.worker),
        "PROFIT_INTERFACE": json.dumps(interface),
    }


def work(runner: Any, run_id: int) -> None:
    """Execute one run in this process, which inherited the runner and goes on to the next."""
    os.environ["PROFIT_RUN_ID"] = str(run_id)
    with runner.change_work_dir(), _handlers_of_one_run() as logger:
        interface = runner.interface.config
        if isinstance(runner.interface, RingwalkRunnerInterface):
            interface = RingwalkWorkerInterface(
                run_id,
                path=runner.interface.path,
                table=runner.interface.table,
                logger_parent=logger,
            )
        worker = Worker.from_config(runner.worker, interface, run_id)
        try:
            worker.work()
        except Exception:  # for the run's own log; the runner is told as well
            worker.logger.exception("run %d failed", run_id)
            raise
        finally:
            worker.clean()


@contextmanager
def _handlers_of_one_run() -> Iterator[logging.Logger]:
    """proFit adds a log file a run to one global logger; take it away again."""
    logger = logging.getLogger("Worker")
    before = list(logger.handlers)
    try:
        yield logger
    finally:
        for handler in logger.handlers[:]:
            if handler not in before:
                logger.removeHandler(handler)
                handler.close()
