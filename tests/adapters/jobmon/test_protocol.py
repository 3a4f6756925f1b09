"""What Jobmon expects of a plugin: found, built, called as the contract says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from jobmon.core.cluster_protocol import ClusterDistributor, ClusterQueue, ClusterWorkerNode
from jobmon.core.cluster_type import ClusterType
from jobmon.core.exceptions import RemoteExitInfoNotAvailable

from ringwalk.adapters.jobmon import RingwalkDistributor, RingwalkQueue, RingwalkWorkerNode

Make = Callable[..., RingwalkDistributor]


def array(distributor: RingwalkDistributor, command: str, length: int) -> dict[int, str]:
    return distributor.submit_array_to_batch_distributor(
        command=repr(command), name="n", requested_resources={"cores": 1}, array_length=length
    )


def single(distributor: RingwalkDistributor, command: str) -> str:
    return distributor.submit_to_batch_distributor(
        command=repr(command), name="n", requested_resources={"cores": 1}
    )


def test_jobmon_finds_the_cluster_type() -> None:
    found = ClusterType("ringwalk")
    assert found.cluster_distributor_class is RingwalkDistributor
    assert found.cluster_queue_class is RingwalkQueue
    assert found.cluster_worker_node_class is RingwalkWorkerNode
    assert ClusterDistributor in RingwalkDistributor.__mro__
    assert ClusterQueue in RingwalkQueue.__mro__
    assert ClusterWorkerNode in RingwalkWorkerNode.__mro__


def test_a_problem_of_ours_leaves_other_clusters_alone(tmp_path: Path) -> None:
    broken = tmp_path / "ringwalk"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('broken')\n")
    script = (
        "from jobmon.core.cluster_type import ClusterType\n"
        "print(ClusterType('multiprocess').cluster_distributor_class.__name__)\n"
        "try:\n"
        "    ClusterType('ringwalk').cluster_distributor_class\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.check_output([sys.executable, "-c", script], env=env, text=True)
    assert done.split() == ["MultiprocessDistributor", "broken"]


def test_forms_of_the_constructor() -> None:
    assert RingwalkDistributor("c").cluster_name == "c"
    assert RingwalkDistributor("c", 5, "more", unknown=1).started is False
    entry = RingwalkDistributor(cluster_name="c", parallelism=1).worker_node_entry_point
    assert entry == str(Path(sys.executable).parent / "worker_node_entry_point")


def test_without_the_worker_program_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="worker_node_entry_point"):
        RingwalkDistributor("c")


def test_worker_commands() -> None:
    distributor = RingwalkDistributor("c")
    command = distributor.build_worker_node_command(array_id=1, batch_number=2)
    assert command.startswith("worker_node_array --array_id 1 --batch_number 2 ")
    assert distributor.build_worker_node_command(3).startswith(
        "worker_node_job --task_instance_id 3 "
    )
    with pytest.raises(ValueError, match="Must specify"):
        distributor.build_worker_node_command()


def test_workers_know_their_id(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distributor = make()
    ask = (
        "from ringwalk.adapters.jobmon import RingwalkWorkerNode as W\n"
        "print(W().distributor_id, W().array_step_id)\n"
    )
    (tmp_path / "ask.py").write_text(ask)
    command = f"{sys.executable} {tmp_path}/ask.py > {tmp_path}/$JOB_ID-$ARRAY_STEP_ID"
    ids = array(distributor, command, 2)
    alone = single(distributor, command)
    assert list(ids) == [0, 1]
    assert distributor.get_submitted_or_running() == {*ids.values(), alone}
    distributor.start()
    assert distributor._commands.wait(timeout=60)
    for step, name in ids.items():
        assert (tmp_path / name.replace("_", "-")).read_text() == f"{name} {step}\n"
        assert len(name) <= 20  # of its column in the database
    assert (tmp_path / f"{alone}-").read_text() == f"{alone} None\n"
    assert distributor._next_job_id - 1 == int(alone)
    assert array(distributor, "true", 0) == {}


def test_worker_node(monkeypatch: pytest.MonkeyPatch) -> None:
    node = RingwalkWorkerNode()
    monkeypatch.delenv("JOB_ID", raising=False)
    monkeypatch.delenv("ARRAY_STEP_ID", raising=False)
    assert (node.distributor_id, node.array_step_id) == (None, None)
    monkeypatch.setenv("JOB_ID", "12")
    assert node.distributor_id == "12"
    monkeypatch.setenv("ARRAY_STEP_ID", "0")
    assert (node.distributor_id, node.array_step_id) == ("12_0", 0)
    assert node.initialize_logfile("stdout", "/logs", "n") == "/logs/n.o12_0"
    assert node.initialize_logfile("stderr", "/logs", "n") == "/logs/n.e12_0"
    assert node.initialize_logfile("stderr", "", "n") == os.devnull
    assert node.get_exit_info(3, "tail") == ("E", "Got exit_code: 3. Error message was: tail")
    usage = node.get_usage_stats()
    assert set(usage) == {"maxrss", "cpu", "usage_str"}
    assert all(isinstance(value, str) for value in usage.values())


def test_queue() -> None:
    queue = RingwalkQueue(1, "null.q", {"cores": (1, 20)})
    assert queue.validate_resources(strict=True, cores=4) == (True, "")
    fine, message = queue.validate_resources(strict=True, cores=21)
    assert not fine
    assert "exceeds queue limit" in message
    assert queue.coerce_resources(cores=21) == {"cores": 21}
    assert queue.required_resources == []
    with pytest.raises(ValueError, match="cores"):
        RingwalkQueue(1, "q", {}).validate_resources(cores=1)


def test_work_submitted_before_the_start_waits(make: Make, tmp_path: Path) -> None:
    distributor = make()
    ids = array(distributor, f"echo . >> {tmp_path}/ran", 3)
    assert distributor.get_submitted_or_running() == {*ids.values()}
    distributor.start()
    distributor.start()
    assert distributor._commands.wait(timeout=60)
    assert (tmp_path / "ran").read_text() == ".\n" * 3


def test_only_the_ids_that_were_asked_for(make: Make) -> None:
    distributor = make()
    ids = array(distributor, "true", 3)
    assert distributor.get_submitted_or_running([ids[1], "77"]) == {ids[1]}
    assert distributor.get_queueing_errors([*ids.values(), "77"]) == {}
    distributor.terminate_task_instances([ids[0], "77"])
    assert distributor.get_submitted_or_running() == {ids[1], ids[2]}
    status, message = distributor.get_remote_exit_info(ids[0])
    assert (status, message) == ("U", "The worker was terminated.")
    assert distributor.get_remote_exit_info(ids[1])[0] == "R"
    with pytest.raises(RemoteExitInfoNotAvailable):
        distributor.get_remote_exit_info("77")


def test_the_real_worker_is_forked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for warm in (True, False):
        distributor = RingwalkDistributor("ringwalk", 2, warm=warm)
        distributor.start()
        try:
            name = distributor.submit_to_batch_distributor("worker_node_job --help", "n", {})
            assert distributor._commands.wait(timeout=120)
            info = distributor._commands.exit_info(name)
            wrong = distributor.submit_to_batch_distributor("worker_node_job --no-such", "n", {})
            assert distributor._commands.wait(timeout=120)
        finally:
            distributor.stop()
        assert info is not None
        assert (info.exit_code, info.warm) == (0, warm)
        status, message = distributor.get_remote_exit_info(wrong)
        assert status == "U"
        assert "exited with 2" in message
        outputs.append(capfd.readouterr())
    assert outputs[0].out == outputs[1].out
    assert "--task_instance_id" in outputs[0].out
    assert outputs[0].err == outputs[1].err == ""
