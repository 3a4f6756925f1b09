# ruff: noqa: F401  # the cases use what is imported here
"""What each case begins with: a process and a folder of its own, proFit and ringwalk's classes."""

import json
import os
import select
import signal
import sys
import time

import numpy as np
from profit.run import Runner, RunnerInterface, WorkerInterface
from profit.util import load_includes

from ringwalk.adapters import profit as drop_in

load_includes(json.loads(os.environ["PROFIT_INCLUDES"]))


def make(worker, size, interface="ringwalk", runner="ringwalk", path="interface.npy", **options):
    if isinstance(worker, str):
        worker = {"class": worker}
    return Runner[runner](
        interface={
            "class": interface,
            "size": size,
            "input_config": {"u": {"dtype": np.float64}},
            "output_config": {"f": {"dtype": np.float64, "size": (1, 1)}},
            "path": path,
        },
        worker=worker,
        **options,
    )


def rows(runner, count):
    """Inputs, outputs and DONE of the first rows."""
    interface = runner.interface
    columns = interface.input["u"], interface.output["f"], interface.internal["DONE"]
    return [column[:count].tolist() for column in columns]


def tell(**result):
    print(json.dumps(result))


def fifo(name):
    os.mkfifo(name)
    return name


def gone(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(10_000))


def read(name):
    with open(name) as file:
        return file.read()


def let_go(u):
    with open(f"go_{u}", "w") as file:
        file.write("x")
