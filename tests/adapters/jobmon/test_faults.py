"""Each fault that stops Jobmon's own multiprocess distributor, and what becomes of it here."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ringwalk.adapters.jobmon import RingwalkDistributor

Make = Callable[..., RingwalkDistributor]
Service = Callable[[str], "subprocess.Popen[str]"]

BOUND_S = 60


def submit(distributor: RingwalkDistributor, command: str, length: int = 1) -> list[str]:
    ids = distributor.submit_array_to_batch_distributor(
        command=repr(command), name="n", requested_resources={}, array_length=length
    )
    return list(ids.values())


def await_end(pid: int) -> None:
    """Returns when the process has ended; fails after a minute."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        ended = select.select([pidfd], [], [], BOUND_S)[0]
        os.close(pidfd)
        assert ended, f"process {pid} lives on"


def supervisor(distributor: RingwalkDistributor) -> int:
    link = distributor._commands._link
    assert link is not None
    return link._process.pid


def test_killed_worker_is_triaged(make: Make, fifo: Path) -> None:
    distributor = make()
    distributor.start()
    (name,) = submit(distributor, f"sleep 1000 & echo $$ $! > {fifo}; wait")
    worker, command = map(int, fifo.read_text().split())
    os.kill(worker, signal.SIGKILL)
    assert distributor._commands.wait(timeout=BOUND_S)
    status, message = distributor.get_remote_exit_info(name)
    assert status == "U"  # which Jobmon retries
    assert "signal 9" in message
    await_end(command)
    assert distributor.get_submitted_or_running() == set()


@pytest.mark.parametrize("busy", [False, True])
def test_killed_supervisor(make: Make, fifo: Path, busy: bool) -> None:
    distributor = make()
    distributor.start()
    lost = submit(distributor, f"echo $$ > {fifo}; exec sleep 1000") if busy else []
    worker = int(fifo.read_text()) if busy else None
    os.kill(supervisor(distributor), signal.SIGKILL)
    if worker is not None:
        await_end(worker)
        assert distributor._commands.wait(timeout=BOUND_S)
        status, message = distributor.get_remote_exit_info(lost[0])
        assert status == "U"
        assert "lost" in message
    ids = submit(distributor, "true", 20)
    distributor._commands.wait(timeout=BOUND_S)
    if not all(_ok(distributor, name) for name in ids):  # its death was not noticed before
        ids = submit(distributor, "true", 20)
        assert distributor._commands.wait(timeout=BOUND_S)
    assert all(_ok(distributor, name) for name in ids)
    distributor.stop()


def _ok(distributor: RingwalkDistributor, name: str) -> bool:
    info = distributor._commands.exit_info(name)
    return info is not None and info.ok


@pytest.mark.parametrize(("command", "told"), [("exit 3", "with 3"), ("kill -9 $$", "signal 9")])
def test_exit_status_is_kept(make: Make, command: str, told: str) -> None:
    distributor = make()
    distributor.start()
    (name,) = submit(distributor, command)
    assert distributor._commands.wait(timeout=BOUND_S)
    status, message = distributor.get_remote_exit_info(name)
    assert status == "U"
    assert told in message


def test_missing_worker_program_is_told(make: Make) -> None:
    distributor = make()
    distributor._worker_node_entry_point = "./no-such-worker"
    distributor.start()
    (name,) = submit(distributor, "true")
    assert distributor._commands.wait(timeout=BOUND_S)
    errors = distributor.get_queueing_errors([name])
    assert "No such file" in errors[name]
    assert "No such file" in distributor.get_remote_exit_info(name)[1]


def test_terminate_kills_what_runs(make: Make, fifo: Path) -> None:
    distributor = make()
    distributor.start()
    (name,) = submit(distributor, f"sleep 1000 & echo $$ $! > {fifo}; wait")
    pids = [int(pid) for pid in fifo.read_text().split()]
    distributor.terminate_task_instances([name])
    for pid in pids:
        await_end(pid)
    assert distributor._commands.wait(timeout=BOUND_S)
    assert distributor.get_submitted_or_running() == set()


def test_terminate_in_the_launch_window(make: Make, tmp_path: Path) -> None:
    distributor = make()
    distributor.start()
    for _ in range(20):
        names = submit(distributor, f"echo $$ >> {tmp_path}/pids; exec sleep 1000", 2)
        distributor.terminate_task_instances(names)
    assert distributor._commands.wait(timeout=BOUND_S)
    pids = tmp_path / "pids"
    for pid in pids.read_text().split() if pids.exists() else []:
        await_end(int(pid))


def test_terminate_takes_away_what_waits(make: Make, tmp_path: Path, fifo: Path) -> None:
    distributor = make(1)
    distributor.start()
    (blocker,) = submit(distributor, f"read line < {fifo}")
    kept = submit(distributor, f"echo . >> {tmp_path}/kept", 2)
    for _ in range(20):
        names = submit(distributor, f"touch {tmp_path}/ran", 200)
        distributor.terminate_task_instances(names)
        assert distributor.get_submitted_or_running() == {blocker, *kept}
    fifo.write_text("go\n")
    assert distributor._commands.wait(timeout=BOUND_S)
    assert (tmp_path / "kept").read_text() == ".\n.\n"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("started", [False, True])
def test_terminate_twenty_thousand(make: Make, tmp_path: Path, started: bool) -> None:
    distributor = make(1)
    if started:
        distributor.start()
        submit(distributor, "sleep 1000")
    names = submit(distributor, f"touch {tmp_path}/ran", 20_000)
    distributor.terminate_task_instances(names)
    assert distributor.get_submitted_or_running(names) == set()
    distributor.start()
    distributor.stop()
    assert not (tmp_path / "ran").exists()


def test_stop_with_work_running_and_queued(make: Make, tmp_path: Path, fifo: Path) -> None:
    distributor = make(1)
    distributor.start()
    submit(distributor, f"echo $$ > {fifo}; exec sleep 1000")
    submit(distributor, f"touch {tmp_path}/ran", 100)
    worker = int(fifo.read_text())
    distributor.stop()
    await_end(worker)
    assert distributor.get_submitted_or_running() == set()
    distributor.stop()
    distributor.start()
    (again,) = submit(distributor, "true")
    assert distributor._commands.wait(timeout=BOUND_S)
    assert _ok(distributor, again)
    assert not (tmp_path / "ran").exists()


def test_stop_without_start(make: Make, tmp_path: Path) -> None:
    distributor = make()
    submit(distributor, f"touch {tmp_path}/ran")
    distributor.stop()
    distributor.start()
    distributor.stop()
    assert not (tmp_path / "ran").exists()


def test_sigterm_to_the_group(service: Service, fifo: Path) -> None:
    process = service(
        "try:\n"  # the worker may run, and the signal come, before submit() is back
        f"    submit('echo $$ > {fifo}; exec sleep 1000', 1)\n"
        "    while True: signal.pause()\n"
        "except Interrupted:\n"
        "    d.stop()\n"
        "    print('stopped')\n"
    )
    worker = int(fifo.read_text())
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=BOUND_S)
    assert (process.returncode, out, err) == (0, "stopped\n", "")
    await_end(worker)


@pytest.mark.slow
def test_sigterm_at_any_instant(service: Service) -> None:
    process = service(
        "import os, threading\n"
        "for round in range(60):\n"
        "    names = []\n"
        "    timer = threading.Timer(0.0005 * round, os.kill, (os.getpid(), signal.SIGTERM))\n"
        "    try:\n"
        "        timer.start()\n"
        "        while True:\n"
        "            names += submit('true', 3).values()\n"
        "            d.terminate_task_instances(names[-1:])\n"
        "            d.get_submitted_or_running()\n"
        "    except Interrupted:\n"
        "        pass\n"
        "    timer.join()\n"
        "    assert d._commands.wait(timeout=60)\n"
        "    assert all(d.get_remote_exit_info(name)[0] == 'U' for name in names)\n"
        "d.stop()\n"
        "print('stopped')\n"
    )
    out, err = process.communicate(timeout=2 * BOUND_S)
    assert (process.returncode, out, err) == (0, "stopped\n", "")


def test_interrupt_to_the_group(service: Service, fifo: Path) -> None:
    process = service(
        f"name = submit('echo . > {fifo}; read line < {fifo}-go; exit 7', 1)[0]\n"
        "d._commands.wait()\n"
        "print(d.get_remote_exit_info(name)[1])\n"
        "d.stop()\n"
    )
    os.mkfifo(f"{fifo}-go")
    fifo.read_text()
    os.killpg(process.pid, signal.SIGINT)
    Path(f"{fifo}-go").write_text("go\n")
    out, _ = process.communicate(timeout=BOUND_S)
    assert "exited with 7" in out


def test_killed_distributor(service: Service, fifo: Path, tmp_path: Path) -> None:
    process = service(
        f"submit('sleep 1000 & echo $$ $! >> {fifo}; wait', 2)\n"
        f"submit('touch {tmp_path}/ran', 4)\n"
        "signal.pause()\n"
    )
    # Open for both ways, it never ends, and what the second worker writes is not thrown away when
    # the first has closed its end.
    with open(os.open(fifo, os.O_RDWR)) as told:
        pids = [int(pid) for _ in range(2) for pid in told.readline().split()]
    process.kill()
    # Standard error included: nobody else holds the pipe, so Jobmon's client does not wait.
    process.communicate(timeout=BOUND_S)
    for pid in pids:
        await_end(pid)
    assert not (tmp_path / "ran").exists()


def test_workers_may_write_what_they_like(service: Service) -> None:
    process = service(
        "names = submit('head -c 100000 /dev/zero >&2', 8)\n"
        "assert d._commands.wait(timeout=60)\n"
        "assert all(d._commands.exit_info(name).ok for name in names.values())\n"
        "d.stop()\n"
        "print('stopped', file=sys.stderr)\n"
    )
    out, err = process.communicate(timeout=BOUND_S)
    assert err == "stopped\n"
    assert len(out) == 800_000


def test_no_id_is_left_over(make: Make) -> None:
    for _ in range(20):
        distributor = make()
        distributor.start()
        names = submit(distributor, "true", 20)
        assert distributor._commands.wait(names, timeout=BOUND_S)
        assert distributor.get_submitted_or_running() == set()
        distributor.stop()
