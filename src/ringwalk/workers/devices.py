"""Which GPU each worker sees: choose, share out, bind.

A device list is resolved in the parent, from the environment and ``/proc`` alone, so that no
driver starts there. A worker binds its device before any user code runs in it::

    parent   CUDA_VISIBLE_DEVICES=4,7   devices=[0, 1]
    worker 0 CUDA_VISIBLE_DEVICES=4     segment's device=0     the GPU is cuda:0 in here
    worker 1 CUDA_VISIBLE_DEVICES=7     segment's device=1     the GPU is cuda:0 in here, too

An integer is a position in the list that the job was granted, a string an entry as it would stand
in that list (index, ``GPU-`` or ``MIG-`` UUID). Where a batch system granted GPUs by
``ROCR_VISIBLE_DEVICES``, ``HIP_VISIBLE_DEVICES`` or ``ZE_AFFINITY_MASK`` instead (AMD, Intel), that
variable is read and bound; the first one that is set counts, ``CUDA_VISIBLE_DEVICES`` before all.

Whether a device exists is not checked: only a driver could tell, and only in the worker.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ringwalk.errors import ConfigError

CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"
VARIABLES = (CUDA_VARIABLE, "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Device:
    """One device of a mapper.

    Attributes:
        label: what a segment gets as ``device``: the user's own entry, for ``"auto"`` the
            position. It names the device; it is no index for a framework in the worker, which
            sees one device and calls it 0.
        visible: what ``variable`` is set to in the worker.
        variable: the environment variable that chooses devices here.
    """

    label: int | str
    visible: str
    variable: str = CUDA_VARIABLE


def resolve_devices(
    devices: Sequence[int | str] | Literal["auto"] | None, *, proc: Path = PROC
) -> tuple[Device, ...] | None:
    """Return the devices to share out among workers; None stands for "no binding".

    ``"auto"`` takes all that the job was granted, by default all that the machine has.

    Raises:
        ConfigError: nothing was found, or an entry is no device, is not granted or comes twice.
    """
    if devices is None:
        return None
    variable, granted = _granted()
    if isinstance(devices, str) and devices == "auto":
        count = _count_nvidia(proc) if granted is None else len(granted)
        if count == 0:
            raise ConfigError(
                f"devices='auto' found no GPU: {variable} is {os.environ.get(variable)!r}, "
                f"{proc}/driver/nvidia/gpus lists {_count_nvidia(proc)}. "
                f"Pass devices=None to run without, or set {variable}"
            )
        devices = range(count)
    resolved = tuple(
        Device(entry, _visible(entry, variable, granted), variable) for entry in _entries(devices)
    )
    seen: dict[str, Device] = {}
    for device in resolved:
        first = seen.setdefault(device.visible, device)
        if first is not device:
            raise ConfigError(
                f"devices names {variable} entry {device.visible!r} twice, as {first.label!r} and "
                f"{device.label!r}; list each device once, workers share them by themselves"
            )
    return resolved


def check_devices(devices: Sequence[int | str] | Literal["auto"] | None) -> None:
    """Refuse with ConfigError what would be a list of devices on no machine."""
    if devices is not None and devices != "auto":
        _entries(devices)


def device_for(worker_index: int, devices: tuple[Device, ...] | None) -> Device | None:
    """Return the worker's device, round-robin: no device gets two workers more than another."""
    return None if devices is None else devices[worker_index % len(devices)]


def bind_device(device: Device) -> None:
    """Make ``device`` the only one that this process sees, as number 0.

    Only a driver that is not yet initialised in this process takes note: call it in the worker,
    before any user code. Children inherit it.
    """
    os.environ[device.variable] = device.visible


def _granted() -> tuple[str, list[str] | None]:
    """Return the variable that chooses devices here and its entries, None where none is set."""
    for variable in VARIABLES:
        value = os.environ.get(variable)
        if value is not None:
            return variable, _split(value)
    return CUDA_VARIABLE, None


def _split(value: str) -> list[str]:
    """Return a variable's entries up to the first invalid one, where drivers stop reading, too."""
    entries: list[str] = []
    for entry in map(str.strip, value.split(",")):
        if not entry or entry.startswith("-") or entry == "NoDevFiles":
            break
        entries.append(entry)
    return entries


def _count_nvidia(proc: Path) -> int:
    try:
        return sum(1 for _ in (proc / "driver" / "nvidia" / "gpus").iterdir())
    except OSError:
        return 0  # no NVIDIA driver, or a container that hides it


def _entries(devices: Sequence[int | str]) -> list[int | str]:
    refusal = f"devices is {devices!r}; pass a list such as [0, 1], 'auto', or None to bind nothing"
    if isinstance(devices, (str, bytes)):
        raise ConfigError(refusal)
    try:
        entries = [_entry(entry, refusal) for entry in devices]
    except TypeError:
        raise ConfigError(refusal) from None
    if not entries:
        raise ConfigError(refusal)
    return entries


def _entry(entry: int | str, refusal: str) -> int | str:
    if isinstance(entry, str):
        text = entry.strip()
        if _split(text) != [text]:
            raise ConfigError(f"devices has the entry {entry!r}, which names no device; {refusal}")
        return text
    index = operator.index(entry)
    if isinstance(entry, bool) or index < 0:
        raise ConfigError(f"devices has the entry {entry!r}, which names no device; {refusal}")
    return index


def _visible(entry: int | str, variable: str, granted: list[str] | None) -> str:
    if granted is None:
        return str(entry)
    if isinstance(entry, int):
        if entry < len(granted):
            return granted[entry]
    else:
        # An index and a UUID can be compared by a driver only: another kind is taken at its word.
        same_kind = [other for other in granted if other.isdecimal() == entry.isdecimal()]
        if entry in same_kind or (granted and not same_kind):
            return entry
    raise ConfigError(
        f"devices has the entry {entry!r}, but {variable}={os.environ[variable]!r} grants "
        f"{len(granted)} devices ({', '.join(granted) or 'none'}); use positions from 0 on in "
        "that list, or change the variable"
    )
