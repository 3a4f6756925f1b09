"""Puts our classes under proFit's own labels, for its tests, which choose classes by label.

A pytest plugin for the test process; ``shadow`` has the same for ``profit`` and ``profit-worker``.
Each process notes the classes of ours that it made in the folder ``RINGWALK_MADE``.
"""

import os
from pathlib import Path

from profit.run import Runner, RunnerInterface, WorkerInterface

BASES = (Runner, RunnerInterface, WorkerInterface)


def apply():
    kept = [dict(base._components) for base in BASES]
    from ringwalk.adapters import profit as drop_in

    # The tests compare the sets of labels.
    for base, components in zip(BASES, kept, strict=True):
        base._components.clear()
        base._components.update(components)
    for label in ("fork", "local"):
        _put(Runner, label, drop_in.RingwalkRunner)
    for label in ("memmap", "zeromq"):
        _put(RunnerInterface, label, drop_in.RingwalkRunnerInterface)
        _put(WorkerInterface, label, drop_in.RingwalkWorkerInterface)


def _put(base, label, kind):
    class Ours(kind):
        # What the tests pass to the ZeroMQ interface.
        def __init__(self, *args, retry_sleep=None, timeout=None, **options):
            Path(os.environ["RINGWALK_MADE"], f"{kind.__name__}-{os.getpid()}").touch()
            super().__init__(*args, **options)

    Ours.label = label
    base._components[label] = Ours


def pytest_configure(config):
    apply()
