"""proFit's runner and interface on ringwalk; importing it registers the label ``ringwalk``.

In a study's ``profit.yaml``, with the path that ``python -m ringwalk.adapters.profit`` prints::

    include: /.../ringwalk/adapters/profit/plugin.py      # knows the label "ringwalk"
    run: {runner: ringwalk, interface: ringwalk}

or, with nothing else changed, ``replacing.py`` beside it, which takes the place of proFit's own
``fork``, ``local`` and ``memmap``. Needs proFit (``pip install ringwalk[profit]``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ringwalk.adapters.profit.interface import RingwalkRunnerInterface, RingwalkWorkerInterface
from ringwalk.adapters.profit.runner import RingwalkRunner

__all__ = [
    "RingwalkRunner",
    "RingwalkRunnerInterface",
    "RingwalkWorkerInterface",
    "replace",
]


def replace(labels: Iterable[str] = ("fork", "local", "memmap")) -> None:
    """Put our classes in the place of proFit's own, under these labels of proFit."""
    from profit.run import Runner, RunnerInterface, WorkerInterface

    ours: list[tuple[Any, Any]] = [
        (Runner, RingwalkRunner),
        (RunnerInterface, RingwalkRunnerInterface),
        (WorkerInterface, RingwalkWorkerInterface),
    ]
    for label in labels:
        for base, kind in ours:
            if label in base._components:
                # Not by register(), which starts proFit's debug output on stderr. A class has
                # one label, so each label gets a class.
                named: Any = type(kind.__name__, (kind,), {"__module__": kind.__module__})
                named.label = label
                base._components[label] = named
