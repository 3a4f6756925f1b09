"""RingwalkWorkManager: our ``ProcessWorkManager``, told what WESTPA's tasks mean.

Two things go wrong when any pool of forked workers runs WESTPA's tasks, and are put right here:

* Every worker has a copy of the propagator's random generators, so walkers in different workers
  get the same noise. Here each (iteration, segment) has a stream of its own.
* Clearing the cache of states is a task, so it reaches one worker. Here each worker clears its
  cache before its first task after such a task was submitted.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ringwalk.adapters.westpa.tasks import ClearedWorker, WestpaTask
from ringwalk.errors import ConfigError
from ringwalk.futures.work_manager import ProcessWorkManager
from ringwalk.observe.progress import Progress

if TYPE_CHECKING:
    from ringwalk.futures.work_manager import WMEnvironment, WMFuture

log = logging.getLogger("ringwalk")

_OURS = "westpa.core.wm_ops"


class RingwalkWorkManager(ProcessWorkManager):
    """A work manager for WESTPA. Workers are forked at ``startup``, with ``westpa.rc`` as it is.

    Args:
        n_workers: default, and for 0: the number of CPUs.
        seed: of the streams of (iteration, segment): the same seed gives the same noise with any
            number of workers. None draws one, and logs it.
        devices: GPUs, one to a worker in turn: a list, "auto", or None to bind nothing. A task
            sees its own in ``CUDA_VISIBLE_DEVICES``, its worker's number in ``WM_PROCESS_INDEX``.
        progress: True draws a bar of the tasks on stderr, where that is a terminal; a function is
            called with (finished, submitted).
    """

    worker_type = ClearedWorker

    def __init__(
        self,
        n_workers: int | None = None,
        shutdown_timeout: float = 1.0,
        *,
        max_retries: int = 1,
        devices: Sequence[int | str] | Literal["auto"] | None = None,
        seed: int | None = None,
        progress: Progress | bool | None = None,
    ) -> None:
        super().__init__(
            n_workers,
            shutdown_timeout,
            max_retries=max_retries,
            devices=devices,
            progress=progress,
        )
        self._given_seed = seed
        self.seed = seed
        self._clearings = 0

    @classmethod
    def from_environ(cls, wmenv: WMEnvironment | None = None) -> Self:
        """As flags and variables say.

        ``WM_N_WORKERS``, ``WM_RINGWALK_SEED``, ``WM_RINGWALK_DEVICES``, ``WM_RINGWALK_PROGRESS``.
        """
        wmenv = wmenv or _westpa_environment()
        seed = wmenv.get_val("ringwalk_seed")
        return cls(
            wmenv.get_val("n_workers", os.cpu_count() or 1, int),
            devices=_devices(wmenv.get_val("ringwalk_devices")),
            seed=None if seed is None else _seed(seed),
            progress=_switch(wmenv.get_val("ringwalk_progress", "0")),
        )

    @classmethod
    def add_wm_args(
        cls, parser: argparse.ArgumentParser, wmenv: WMEnvironment | None = None
    ) -> None:
        """Add ``--ringwalk-seed`` and its like; a second call adds nothing."""
        wmenv = wmenv or _westpa_environment()
        flag = wmenv.arg_flag("ringwalk_seed")
        if flag in parser._option_string_actions:  # registered under a second name
            return
        group = parser.add_argument_group("options for the ringwalk work manager")
        group.add_argument(
            flag,
            dest=wmenv.arg_name("ringwalk_seed"),
            metavar="N",
            help="seed of the random streams of all segments; default: a new one for each run",
        )
        group.add_argument(
            wmenv.arg_flag("ringwalk_devices"),
            dest=wmenv.arg_name("ringwalk_devices"),
            metavar="LIST",
            help='GPUs to share out among the workers: "0,1", "auto"; default: bind none',
        )
        group.add_argument(
            wmenv.arg_flag("ringwalk_progress"),
            dest=wmenv.arg_name("ringwalk_progress"),
            action="store_const",
            const="1",
            help="show how many tasks are finished, if standard error is a terminal",
        )

    def startup(self) -> None:
        if not self.running and self._given_seed is None:
            self.seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
            log.info("seed of this run's segments: %d", self.seed)
        super().startup()

    def submit(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> WMFuture:
        if getattr(fn, "__module__", None) != _OURS:
            return super().submit(fn, args, kwargs)
        if fn.__name__ == "prep_iter":
            self._clearings += 1
        task = WestpaTask(fn, self.seed or 0, self._clearings)
        return super().submit(task, args, kwargs)


def _westpa_environment() -> WMEnvironment:
    """WESTPA's own, which has the same interface as ours."""
    from westpa.work_managers.environment import default_env

    found: WMEnvironment = default_env
    return found


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"the ringwalk seed is {text!r}; give an integer, 0 or more")
    return int(text)


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ConfigError(f"the ringwalk progress is {text!r}; give 0 or 1")
    return text == "1"


def _devices(text: str | None) -> Sequence[int | str] | Literal["auto"] | None:
    if text is None:
        return None
    if text == "auto":
        return "auto"
    entries = [entry.strip() for entry in text.split(",")]
    return [int(entry) if entry.isdecimal() else entry for entry in entries]
