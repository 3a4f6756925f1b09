"""Jobmon's distributor protocol on a CommandDistributor.

Every task of a Jobmon workflow is a process ``worker_node_entry_point ...``, which imports for
about a second before it does anything. They are forked from a template that has imported all that;
``"warm": false`` in the cluster's connection parameters starts each afresh.

The workers' standard error goes where their standard output goes: the distributor's own is a pipe
which Jobmon's client does not read while a workflow runs, so 64 KiB on it would stop every worker.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from jobmon.core.cluster_protocol import ClusterDistributor
from jobmon.core.constants import TaskInstanceStatus
from jobmon.core.exceptions import RemoteExitInfoNotAvailable

from ringwalk.distributors import CommandDistributor, ExitInfo

_WARM = (
    "jobmon.worker_node.cli",
    "jobmon.worker_node.worker_node_factory",
    "jobmon.worker_node.worker_node_task_instance",
    "ringwalk.adapters.jobmon.worker_node",
)
_ENTRY_POINT = "worker_node_entry_point"
# What the worker's own exit codes mean (jobmon.core.exceptions.ReturnCodes).
_CODES = {
    198: "the worker's Jobmon is of another version than the client's",
    199: "the worker failed before or after the command",
}


class RingwalkDistributor(ClusterDistributor):  # type: ignore[misc]
    """Runs a workflow's tasks on this machine, ``parallelism`` at a time.

    Args:
        cluster_name: as in Jobmon's database.
        parallelism: tasks that run at once.
        warm: fork workers from a template; False starts each afresh.
        ignored: further connection parameters, of other cluster types.

    Raises:
        ValueError: Jobmon's worker program is neither beside this Python nor on PATH.
    """

    def __init__(
        self,
        cluster_name: str,
        parallelism: int = 3,
        *args: object,
        warm: bool = True,
        **ignored: object,
    ) -> None:
        self._cluster_name = cluster_name
        self._worker_node_entry_point = _find_entry_point()
        # Without Jobmon's client the worker can not be imported, here or anywhere.
        modules = _WARM if warm and find_spec("jobmon.client") else ()
        self._commands = CommandDistributor(parallelism, stderr=subprocess.STDOUT, warm=modules)
        self._next_job_id = 1  # what Jobmon's own tests read

    @property
    def cluster_name(self) -> str:
        """The cluster's name in Jobmon's database."""
        return self._cluster_name

    @property
    def worker_node_entry_point(self) -> str:
        """Path of Jobmon's worker program."""
        return self._worker_node_entry_point

    @property
    def started(self) -> bool:
        """Between ``start`` and ``stop``."""
        return self._commands.started

    def start(self) -> None:
        """Run what was submitted, and what will be."""
        self._commands.start()

    def stop(self) -> None:
        """End every task, run none that waits; within ten seconds, and as often as you like."""
        self._commands.stop()

    def submit_to_batch_distributor(
        self, command: str, name: str, requested_resources: dict[str, Any]
    ) -> str:
        """Queue one worker; its id."""
        job = self._commands.submit(self._argv(command))
        self._next_job_id = int(job) + 1
        return job

    def submit_array_to_batch_distributor(
        self, command: str, name: str, requested_resources: dict[str, Any], array_length: int
    ) -> dict[int, str]:
        """Queue a worker for each step; step -> id."""
        ids = self._commands.submit_array(self._argv(command), array_length)
        if ids:
            self._next_job_id = int(ids[0].partition("_")[0]) + 1
        return dict(enumerate(ids))

    def get_submitted_or_running(self, distributor_ids: Iterable[str] | None = None) -> set[str]:
        """Those of these ids, of all by default, that wait or run."""
        return self._commands.submitted_or_running(distributor_ids)

    def terminate_task_instances(self, distributor_ids: Sequence[str]) -> None:
        """Drop those that wait, end those that run with all their descendants."""
        self._commands.terminate(distributor_ids)

    def get_queueing_errors(self, distributor_ids: Iterable[str]) -> dict[str, str]:
        """Why workers could not be started."""
        known = {name: self._info(name) for name in distributor_ids}
        return {name: info.error for name, info in known.items() if info and info.error}

    def get_remote_exit_info(self, distributor_id: str) -> tuple[str, str]:
        """What became of a worker that does not report any more: a state of Jobmon, and why.

        Raises:
            RemoteExitInfoNotAvailable: the id is not of this distributor.
        """
        try:
            info = self._commands.exit_info(distributor_id)
        except KeyError as error:
            raise RemoteExitInfoNotAvailable(str(error)) from error
        if info is None:
            return TaskInstanceStatus.RUNNING, "The worker waits or runs."
        # Never a resource error: nothing here tells a lack of memory from any other SIGKILL.
        return TaskInstanceStatus.UNKNOWN_ERROR, _explanation(info)

    def _get_subtask_id(self, distributor_id: int, array_step_id: int) -> str:
        return f"{distributor_id}_{array_step_id}"

    def _argv(self, command: str) -> list[str]:
        return [self._worker_node_entry_point, *shlex.split(command)]

    def _info(self, distributor_id: str) -> ExitInfo | None:
        try:
            return self._commands.exit_info(distributor_id)
        except KeyError:
            return None


def _explanation(info: ExitInfo) -> str:
    if info.error is not None:
        return f"The worker {info.error}."
    if info.terminated:
        return "The worker was terminated."
    used = f"after {info.wall:.1f} s, {info.user + info.system:.1f} s of processor time"
    if info.signal is not None:
        return f"The worker was killed by signal {info.signal} {used}."
    if info.exit_code == 0:
        return f"The worker exited with 0 {used}, without reporting the task's end."
    meaning = _CODES.get(info.exit_code or 0, "see its output")
    return f"The worker exited with {info.exit_code} {used}: {meaning}."


def _find_entry_point() -> str:
    beside = os.path.join(os.path.dirname(sys.executable), _ENTRY_POINT)
    path = beside if os.access(beside, os.X_OK) else shutil.which(_ENTRY_POINT)
    if path is None:
        raise ValueError(
            f"{_ENTRY_POINT} is neither beside {sys.executable} nor on PATH; install jobmon-core"
        )
    return path
