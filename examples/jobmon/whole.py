"""A whole Jobmon on this machine: server on SQLite and loopback, client, ringwalk's distributor.

    python whole.py [--tasks 20] [--parallelism 2] [--cluster ringwalk]

Needs jobmon_core, jobmon_client and jobmon_server of one version, and "fastapi<0.118"; as of 3.7
these come from a git checkout only (docs/adapters/jobmon.md tells how). Prints the workflow's
final state, the tasks' states, wall time, and processor time of distributor and workers.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLUSTER = """
INSERT INTO cluster_type(name) VALUES ('ringwalk');
INSERT INTO cluster(name, cluster_type_id, connection_parameters)
    SELECT 'ringwalk', id, '{}' FROM cluster_type WHERE name='ringwalk';
INSERT INTO queue(name, cluster_id, parameters)
    SELECT 'null.q', id, '{"cores": (1,20)}' FROM cluster WHERE name='ringwalk';
"""


def configure(folder: Path, port: int) -> Path:
    """Set Jobmon's variables; the database file."""
    database = folder / "jobmon.sqlite"
    settings = {
        "DB__SQLALCHEMY_DATABASE_URI": f"sqlite:///{database}",
        "DB__SQLALCHEMY_CONNECT_ARGS": "{}",
        "AUTH__ENABLED": "false",
        "SESSION__SECRET_KEY": "only for this machine",
        "HTTP__ROUTE_PREFIX": "/api/v3",
        "HTTP__SERVICE_URL": f"http://127.0.0.1:{port}",
        "HEARTBEAT__WORKFLOW_RUN_INTERVAL": "2",
        "HEARTBEAT__TASK_INSTANCE_INTERVAL": "20",
    }
    os.environ.update({f"JOBMON__{name}": value for name, value in settings.items()})
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return database


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """Run Jobmon's web service until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    database = configure(folder, port)
    log = (folder / "server.log").open("w")
    subprocess.run(["jobmon-server", "db", "init"], check=True, stdout=log, stderr=log)
    with sqlite3.connect(database) as connection:
        connection.executescript(CLUSTER)
    web = [sys.executable, "-m", "uvicorn", "--factory", "jobmon.server.web.api:get_app"]
    process = subprocess.Popen(
        [*web, "--host", "127.0.0.1", "--port", str(port), "--no-access-log"],
        stdout=log,
        stderr=log,
    )
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v3/health")
                break
            except urllib.error.URLError:
                time.sleep(0.2)  # it offers nothing to wait on
        yield
    finally:
        process.terminate()
        process.wait()
        log.close()


def run(folder: Path, tasks: int, parallelism: int, cluster: str) -> bool:
    """Run one workflow; whether all of it was done."""
    with sqlite3.connect(folder / "jobmon.sqlite") as connection:
        connection.execute(
            "UPDATE cluster SET connection_parameters=? WHERE name=?",
            (json.dumps({"parallelism": parallelism}), cluster),
        )
    from jobmon.client.api import Tool

    tool = Tool(name="demo")
    template = tool.get_task_template(
        template_name="t",
        command_template="{cmd} {i}",
        node_args=["i"],
        task_args=[],
        op_args=["cmd"],
    )
    workflow = tool.create_workflow(
        name="w",
        default_cluster_name=cluster,
        workflow_args=str(uuid.uuid4()),
        default_compute_resources_set={cluster: {"queue": "null.q", "cores": 1}},
    )
    workflow.add_tasks(template.create_tasks(i=list(range(tasks)), cmd="true #", max_attempts=1))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    status = workflow.run(seconds_until_timeout=300)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with sqlite3.connect(folder / "jobmon.sqlite") as connection:
        states = connection.execute(
            "SELECT status, count(*) FROM task WHERE workflow_id=? GROUP BY 1",
            (workflow.workflow_id,),
        ).fetchall()
    print(f"{cluster}: workflow {status}, tasks {dict(states)}, {wall:.1f} s, {spent:.1f} CPU s")
    return bool(status == "D" and dict(states) == {"D": tasks})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--cluster", action="append", help="may be given several times")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jobmon-") as name, server(Path(name)):
        clusters = options.cluster or ["ringwalk"]
        done = [run(Path(name), options.tasks, options.parallelism, c) for c in clusters]
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
