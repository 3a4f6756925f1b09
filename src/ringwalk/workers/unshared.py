"""A task process's arguments: what it inherited, but for arrays on memory that it would share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ringwalk._core.encoder import are_light
from ringwalk.memory.buffers import Inputs
from ringwalk.memory.repeated import is_immutable
from ringwalk.memory.shared_mappings import SharedMappings
from ringwalk.workers.job import Column, Constant, Getter, Indexed, Job, Sources


@dataclass
class _Unshared:
    """A column whose elements may hold arrays on shared memory."""

    column: Constant | Indexed
    mappings: SharedMappings
    inputs: Inputs

    def getter(self, sources: Sources, first: int) -> Getter:
        get, private, inputs = (
            self.column.getter(sources, first),
            self.mappings.private,
            self.inputs,
        )
        return lambda task: private(get(task), inputs)


def unshared(job: Job, inputs: Inputs) -> Job:
    """The job of a lane. pre: this process makes its arguments' shared memory its own no more."""
    columns = [*job.positional, *job.named.values()]
    if not any(map(_may_hold_arrays, columns)) or not (mappings := SharedMappings()):
        return job

    def own(column: Column) -> Any:
        if isinstance(column, (Constant, Indexed)) and _may_hold_arrays(column):
            return _Unshared(column, mappings, inputs)
        return column

    return replace(
        job,
        positional=tuple(map(own, job.positional)),
        named={name: own(column) for name, column in job.named.items()},
    )


def _may_hold_arrays(column: Column) -> bool:
    if isinstance(column, Constant):
        return not is_immutable(column.value)
    if not isinstance(column, Indexed) or isinstance(column.values, range):
        return False
    return isinstance(column.values, np.ndarray) or not are_light(column.values, _ANY_LENGTH)


_ANY_LENGTH = 1 << 62
