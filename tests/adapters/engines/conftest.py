"""A real Slurm of two nodes on one machine, in namespaces of its own: root, and Debian packages.

The controller and each node have a network and a host name of their own (network and UTS
namespaces); the machine's network is not touched. They share processors and file system. Two
character devices stand for GPUs: Slurm only counts them and sets the variables.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

RunSlurm = Callable[..., subprocess.CompletedProcess[str]]

NEEDED = ("slurmctld", "slurmd", "srun", "munged", "ip", "unshare")
SUBNET = "10.77.0"  # seen within the three namespaces only
HOSTS = {"n0": 1, "n1": 11, "n2": 12}


@pytest.fixture(autouse=True)
def _dask_has_ended() -> Iterator[None]:
    """Wait for Dask's threads that saw its workers end: they hold pipes, and end a little later."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("AsyncProcess"):
            thread.join(30)


SLURM_CONF = """\
ClusterName=ringwalk
SlurmctldHost=n0({subnet}.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
MpiDefault=pmi2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
ReturnToService=2
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
NodeName=n1 NodeAddr={subnet}.11 CPUs=4 RealMemory=2000 Gres=gpu:2
NodeName=n2 NodeAddr={subnet}.12 CPUs=4 RealMemory=2000 Gres=gpu:2
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def _why_not() -> str | None:
    if os.geteuid() != 0:
        return "a Slurm in namespaces needs root"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return (
            f"{', '.join(missing)} not found; Debian: apt-get install slurmctld slurmd "
            "slurm-client munge iproute2 util-linux"
        )
    probe = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, text=True)
    return f"no namespaces here: {probe.stderr.strip()}" if probe.returncode else None


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[RunSlurm]:
    """A function that runs a command on the controller's host, as a login node would."""
    reason = _why_not()
    if reason is not None:
        pytest.skip(reason)
    names = {host: f"rw{os.getpid()}-{host}" for host in HOSTS}

    def on(host: str, *command: str | Path) -> list[str]:
        inside = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
        return ["ip", "netns", "exec", names[host], *inside, *map(str, command)]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    with ExitStack() as stack:
        for host in HOSTS:
            ip("netns", "add", names[host])
            stack.callback(_remove, names[host])
            ip("-n", names[host], "link", "set", "lo", "up")
        bridge = names["n0"]
        ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", bridge, "addr", "add", f"{SUBNET}.1/24", "dev", "br0")
        ip("-n", bridge, "link", "set", "br0", "up")
        for host in ("n1", "n2"):
            pair = ["type", "veth", "peer", "name", "eth0", "netns", names[host]]
            ip("-n", bridge, "link", "add", f"to-{host}", *pair)
            ip("-n", bridge, "link", "set", f"to-{host}", "master", "br0", "up")
            ip("-n", names[host], "addr", "add", f"{SUBNET}.{HOSTS[host]}/24", "dev", "eth0")
            ip("-n", names[host], "link", "set", "eth0", "up")
        conf = _configure(tmp_path)
        # It returns when its socket answers.
        subprocess.run(on("n0", "munged", *_munge_options(tmp_path)), check=True)
        daemons = {"n0": "slurmctld", "n1": "slurmd", "n2": "slurmd"}
        for host, program in daemons.items():
            daemon = subprocess.Popen(
                on(host, program, "-D", "-f", conf), stderr=subprocess.DEVNULL
            )
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)

        def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
            # srun waits by itself for the controller and for nodes.
            return subprocess.run(
                on("n0", *command),
                env={**os.environ, "SLURM_CONF": str(conf)},
                capture_output=True,
                text=True,
                timeout=200,
            )

        yield run


def _configure(folder: Path) -> Path:
    for name in ("state", "spool.n1", "spool.n2"):
        (folder / name).mkdir()
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # munged refuses a socket that others could not reach
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(32))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(subnet=SUBNET, folder=folder))
    gpus = "".join(
        f"NodeName=n[1-2] Name=gpu File={device}\n" for device in ("/dev/null", "/dev/zero")
    )
    (folder / "gres.conf").write_text(gpus)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nIgnoreSystemd=yes\n")
    return conf


def _munge_options(folder: Path) -> list[str]:
    return [
        "--force",
        f"--socket={folder}/munge.socket",
        f"--key-file={folder}/munge.key",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munged.seed",
    ]


def _remove(namespace: str) -> None:
    """End what still runs in it, munged and steps of jobs, and the namespace."""
    found = subprocess.run(
        ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True
    )
    subprocess.run(["kill", "-9", *found.stdout.split()], stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "del", namespace], check=True)
