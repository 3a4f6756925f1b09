"""What a Jobmon worker process asks about the cluster that it runs on."""

from __future__ import annotations

import json
import os
import resource

from jobmon.core.cluster_protocol import ClusterWorkerNode
from jobmon.core.constants import TaskInstanceStatus


class RingwalkWorkerNode(ClusterWorkerNode):  # type: ignore[misc]
    """Answers from the environment that the distributor gave to this process."""

    @property
    def distributor_id(self) -> str | None:
        """The id that the submit returned; None outside a job."""
        job, step = os.environ.get("JOB_ID"), self.array_step_id
        if not job:
            return None
        return job if step is None else f"{job}_{step}"

    @property
    def array_step_id(self) -> int | None:
        """This task's number in its array, from 0; None outside an array."""
        step = os.environ.get("ARRAY_STEP_ID")
        return int(step) if step else None

    def get_exit_info(self, exit_code: int, error_msg: str) -> tuple[str, str]:
        """What Jobmon is to record of a command that failed."""
        message = f"Got exit_code: {exit_code}. Error message was: {error_msg}"
        return TaskInstanceStatus.ERROR, message

    def get_usage_stats(self) -> dict[str, str]:
        """Memory in bytes and processor seconds of the command, as Jobmon 3.7 stores them."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        max_rss = usage.ru_maxrss * 1024
        raw = {
            "maxrss_bytes": max_rss,
            "user_time_sec": usage.ru_utime,
            "system_time_sec": usage.ru_stime,
        }
        return {
            "maxrss": str(max_rss),
            "cpu": str(round(usage.ru_utime + usage.ru_stime, 2)),
            "usage_str": json.dumps(raw),
        }

    def initialize_logfile(self, log_type: str, log_dir: str, name: str) -> str:
        """Where a stream of the command goes; no two runs share an id, so none overwrites it."""
        if not log_dir:
            return os.devnull
        letter = {"stdout": "o", "stderr": "e"}[log_type]
        return f"{log_dir}/{name}.{letter}{self.distributor_id}"
