"""wepy's OpenMM worker and task types, with threads and devices honoured.

Each is a subclass of wepy's class of the same name, so that ``isinstance`` and code that looks at
names go on working, and each works with wepy's own mappers as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import openmm
from wepy.runners import openmm as wepy
from wepy.work_mapper.mapper import Task

PlatformKwargs = dict[str, str]


class OpenMMCPUWorker(wepy.OpenMMCPUWorker):  # type: ignore[misc]  # wepy has no types
    """Runs segments on the runner's platform, with ``num_threads`` threads (worker attribute).

    Default: what the runner's own ``platform_kwargs`` say, else 1. In wepy it has no effect.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._wanted = kwargs.get("num_threads")
        super().__init__(*args, **kwargs)

    def run_task(self, task: Task) -> Any:
        return task(**_on_cpu(task, self.mapper_attributes, self._wanted, self.DEFAULT_NUM_THREADS))


class OpenMMCPUWalkerTaskProcess(
    wepy.OpenMMCPUWalkerTaskProcess  # type: ignore[misc]  # wepy has no types
):
    """Runs a segment on the runner's platform, with ``num_threads`` threads (mapper attribute).

    Default: what the runner's own ``platform_kwargs`` or OpenMM say. In wepy it has no effect.
    """

    def run_task(self, task: Task) -> Any:
        wanted = self.mapper_attributes.get("num_threads")
        return task(**_on_cpu(task, self.mapper_attributes, wanted, None))


class OpenMMGPUWorker(wepy.OpenMMGPUWorker):  # type: ignore[misc]  # wepy has no types
    """Runs segments on the mapper's ``platform`` and this worker's entry of its ``device_ids``.

    With fewer ids than workers, workers share devices in turn.
    """

    def run_task(self, task: Task) -> Any:
        return task(**_on_device(self.mapper_attributes, self._worker_idx))


class OpenMMGPUWalkerTaskProcess(
    wepy.OpenMMGPUWalkerTaskProcess  # type: ignore[misc]  # wepy has no types
):
    """Runs a segment on the mapper's ``platform`` and a device leased for as long as it runs.

    With fewer ``device_ids`` than workers, workers share devices in turn.
    """

    def run_task(self, task: Task) -> Any:
        return task(**_on_device(self.mapper_attributes, self._worker_idx))


def _on_device(attributes: Mapping[str, Any], worker: int) -> dict[str, Any]:
    ids: Sequence[int | str] = attributes["device_ids"]
    device = ids[worker % len(ids)]
    return {
        "platform": attributes["platform"],
        "platform_kwargs": {"DeviceIndex": str(device)},
    }


def _on_cpu(
    task: Task, attributes: Mapping[str, Any], wanted: int | str | None, default: int | None
) -> dict[str, Any]:
    """The platform that the runner would take, by name: without one it drops platform_kwargs."""
    runner = getattr(task.func, "__self__", None)
    if runner is None or not hasattr(runner, "_resolve_platform"):
        return {"platform_kwargs": {} if wanted is None else {"Threads": str(wanted)}}
    platform, own = runner._resolve_platform(attributes.get("platform"), None)
    kwargs: PlatformKwargs = dict(own or {})
    if platform is None or "Threads" not in _property_names(platform):
        return {"platform": platform, "platform_kwargs": kwargs}
    if wanted is not None:
        kwargs["Threads"] = str(wanted)
    elif default is not None:
        kwargs.setdefault("Threads", str(default))
    return {"platform": platform, "platform_kwargs": kwargs}


def _property_names(platform: str) -> Sequence[str]:
    names: Sequence[str] = openmm.Platform.getPlatformByName(platform).getPropertyNames()
    return names
