"""CommandDistributor: what commands get, what is known of them, how they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ringwalk.distributors import CommandDistributor
from ringwalk.errors import ClosedError, ConfigError, ForkedError, RingwalkError

Make = Callable[..., CommandDistributor]


PF_EXITING = 0x4  # of the kernel's include/linux/sched.h


def alive(pid: int) -> bool:
    """Whether the process runs; one that is on its way out, or that nobody reaped yet, does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # before it was opened, or after
        return False
    fields = stat.rpartition(")")[2].split()
    return not (fields[0] == "Z" or int(fields[6]) & PF_EXITING)


def test_each_command_has_its_own_output(make: Make, tmp_path: Path) -> None:
    distributor = make(output=tmp_path / "logs")
    distributor.start()
    shell = distributor.submit("echo out; echo err >&2", name="shell")
    words = distributor.submit(["echo", "two  spaces", "$HOME"], name="words")
    assert distributor.wait(timeout=60)
    logs = tmp_path / "logs"
    assert (logs / f"shell.o{shell}").read_text() == "out\n"
    assert (logs / f"shell.e{shell}").read_text() == "err\n"
    assert (logs / f"words.o{words}").read_text() == "two  spaces $HOME\n"


def test_a_start_that_hangs_holds_up_no_other_and_can_be_ended(make: Make, tmp_path: Path) -> None:
    distributor = make(output=tmp_path, grace=0.1)
    distributor.start()
    first = distributor.submit("true")
    stuck = str(int(first) + 10_000)
    os.mkfifo(tmp_path / f"command.o{stuck}")  # to open it for writing is to wait for a reader
    assert distributor.submit("true") == stuck
    others = [distributor.submit("true") for _ in range(3)]
    assert distributor.wait([first, *others], timeout=60)
    assert distributor.exit_info(stuck) is None
    distributor.terminate([stuck])
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(stuck)
    assert info is not None
    assert (info.signal, info.terminated) == (signal.SIGKILL, True)


def test_what_cannot_be_started_is_told_among_what_can(make: Make, tmp_path: Path) -> None:
    distributor = make()
    distributor.start()
    data = tmp_path / "data"
    data.write_text("")
    ids = [
        distributor.submit("true", cwd=tmp_path / "nowhere"),
        distributor.submit([str(data)]),
        distributor.submit("true"),
        distributor.submit(["no such program"]),
        distributor.submit(["sh", "-c", "exit 127"]),
    ]
    assert distributor.wait(timeout=60)
    infos = [distributor.exit_info(name) for name in ids]
    told = [(info.error, info.exit_code) for info in infos if info is not None]
    nothing = "could not be started: No such file or directory"
    assert told == [
        (nothing, None),
        ("could not be started: Permission denied", None),
        (None, 0),
        (nothing, None),
        (None, 127),
    ]


def test_array_steps_know_their_number(make: Make, tmp_path: Path) -> None:
    distributor = make(output=tmp_path)
    distributor.start()
    ids = distributor.submit_array("echo ${JOB_ID}_$ARRAY_STEP_ID", 3, name="a")
    single = distributor.submit("echo ${JOB_ID}${ARRAY_STEP_ID+x}", name="a")
    assert distributor.submit_array("true", 0) == []
    assert distributor.wait(timeout=60)
    assert [name.rpartition("_")[2] for name in ids] == ["0", "1", "2"]
    for name in (*ids, single):
        assert (tmp_path / f"a.o{name}").read_text() == f"{name}\n"


def test_environment_and_folder_are_those_of_the_submit(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributor = make(output=tmp_path)
    distributor.start()
    ids = []
    for value in ("one", "two"):
        monkeypatch.setenv("RINGWALK_TEST", value)
        (tmp_path / value).mkdir()
        monkeypatch.chdir(tmp_path / value)
        ids.append(distributor.submit("echo $RINGWALK_TEST $EXTRA $PWD", env={"EXTRA": "e"}))
    assert distributor.wait(timeout=60)
    for name, value in zip(ids, ("one", "two"), strict=True):
        text = (tmp_path / f"command.o{name}").read_text()
        assert text == f"{value} e {tmp_path / value}\n"


def test_exit_info(distributor: CommandDistributor) -> None:
    code = distributor.submit("exit 3")
    killed = distributor.submit("kill -9 $$")
    absent = distributor.submit(["/no/such/program"])
    nowhere = distributor.submit("true", cwd="/no/such/folder")
    work = distributor.submit([sys.executable, "-c", "sum(range(3_000_000)); bytearray(50 << 20)"])
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(code)
    assert info is not None
    assert (info.exit_code, info.signal, info.ok, info.terminated) == (3, None, False, False)
    info = distributor.exit_info(killed)
    assert info is not None
    assert (info.exit_code, info.signal) == (None, signal.SIGKILL)
    for name in (absent, nowhere):
        info = distributor.exit_info(name)
        assert info is not None
        assert (info.exit_code, info.signal) == (None, None)
        assert info.error is not None
        assert "No such file" in info.error
    info = distributor.exit_info(work)
    assert info is not None
    assert info.ok
    assert info.user > 0
    assert info.wall >= 0
    assert info.max_rss > 50 << 20
    with pytest.raises(KeyError, match="nobody"):
        distributor.exit_info("nobody")


def test_ids_are_listed_until_their_end(distributor: CommandDistributor, fifo: Path) -> None:
    name = distributor.submit(f"read line < {fifo}")
    assert distributor.submitted_or_running() == {name}
    assert distributor.submitted_or_running(["other", name]) == {name}
    assert distributor.exit_info(name) is None
    assert distributor.completed(timeout=0.01) == []
    assert not distributor.wait(timeout=0.01)
    fifo.write_text("go\n")
    assert [info.id for info in distributor.completed()] == [name]
    assert distributor.submitted_or_running() == set()
    assert distributor.completed() == []


def test_who_is_told_of_progress_may_look_and_submit(make: Make) -> None:
    looks: list[int] = []

    def told(ended: int, submitted: int) -> None:
        looks.append(len(distributor.submitted_or_running()))
        if submitted < 10:
            more.append(distributor.submit("true"))
        for call in (lambda: distributor.terminate(more), distributor.stop, distributor.wait):
            if looks[-1] or call != distributor.wait:  # which has nothing to wait for at last
                with pytest.raises(RingwalkError, match="progress function"):
                    call()

    distributor = make(progress=told)
    distributor.start()
    more = distributor.submit_array("true", 5)
    assert distributor.wait(timeout=20)
    last = distributor.submit_array("sleep 1000", 2000)
    distributor.stop()
    assert len(looks) == 2010
    assert sorted(info.id for info in distributor.completed()) == sorted([*more, *last])


def test_no_more_run_than_asked_and_in_order(make: Make, tmp_path: Path) -> None:
    distributor = make(2, output=tmp_path)
    distributor.start()
    body = (
        "import os, sys, time\n"
        "open(f'{sys.argv[1]}/{os.getpid()}.run', 'x').close()\n"
        "print(len([n for n in os.listdir(sys.argv[1]) if n.endswith('.run')]))\n"
        "os.unlink(f'{sys.argv[1]}/{os.getpid()}.run')\n"
    )
    ids = distributor.submit_array([sys.executable, "-S", "-c", body, str(tmp_path)], 20)
    infos = []
    while len(infos) < 20:
        infos += distributor.completed(timeout=60)
    assert max(int((tmp_path / f"command.o{name}").read_text()) for name in ids) <= 2
    by_id = {info.id: info.start for info in infos}
    assert [by_id[name] for name in ids] == sorted(by_id.values())


def test_what_is_submitted_before_the_start_waits(make: Make) -> None:
    distributor = make()
    kept = distributor.submit_array("true", 4)
    gone = distributor.submit("true")
    assert distributor.submitted_or_running() == {*kept, gone}
    with pytest.raises(RingwalkError, match="not started"):
        distributor.wait()
    distributor.terminate([gone, kept[1]])
    info = distributor.exit_info(kept[1])
    assert info is not None
    assert (info.terminated, info.start, info.exit_code) == (True, 0.0, None)
    distributor.start()
    distributor.start()
    assert distributor.wait(timeout=60)
    ran = [info.id for info in distributor.completed() if info.ok]
    assert sorted(ran) == sorted([kept[0], *kept[2:]])


def test_terminate_ends_the_whole_tree(distributor: CommandDistributor, fifo: Path) -> None:
    # In its own session, and not of its parent any more: neither group nor lineage leads to it.
    name = distributor.submit(f"(setsid sh -c 'echo $$ > {fifo}; exec sleep 1000' &); sleep 1000")
    daemon = int(fifo.read_text())
    distributor.terminate([name, "unknown"])
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(name)
    assert info is not None
    assert (info.signal, info.terminated) == (signal.SIGTERM, True)
    assert not alive(daemon)
    distributor.terminate([name])


def test_what_ignores_sigterm_is_killed(make: Make, fifo: Path) -> None:
    distributor = make(grace=0.05)
    distributor.start()
    name = distributor.submit(f"trap '' TERM; echo $$ > {fifo}; while :; do sleep 1000; done")
    fifo.read_text()
    distributor.terminate([name])
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(name)
    assert info is not None
    assert info.signal == signal.SIGKILL


def test_what_takes_sigterm_has_its_grace(make: Make, fifo: Path, tmp_path: Path) -> None:
    distributor = make(grace=60)
    distributor.start()
    # The shell dies at once; the program below it has work to do.
    script = tmp_path / "child.sh"
    script.write_text(
        f"trap 'echo saved > {tmp_path}/saved; exit' TERM\necho . > {fifo}\n"
        "while :; do sleep 0.01; done\n"
    )
    name = distributor.submit(f"sh {script}; :")
    fifo.read_text()
    distributor.terminate([name])
    assert distributor.wait(timeout=60)
    assert (tmp_path / "saved").read_text() == "saved\n"


def test_a_stopped_command_is_ended(distributor: CommandDistributor, fifo: Path) -> None:
    name = distributor.submit(f"echo $$ > {fifo}; kill -STOP $$")
    fifo.read_text()
    distributor.terminate([name])
    assert distributor.wait(timeout=60)


def test_terminated_work_never_runs(make: Make, tmp_path: Path, fifo: Path) -> None:
    distributor = make(1)
    distributor.start()
    blocker = distributor.submit(f"read line < {fifo}")
    for _ in range(20):
        ids = distributor.submit_array(f"touch {tmp_path}/ran", 200)
        distributor.terminate(ids)
        assert distributor.submitted_or_running() == {blocker}
    fifo.write_text("go\n")
    assert distributor.wait(timeout=60)
    assert not (tmp_path / "ran").exists()


def test_twenty_thousand_are_dropped(make: Make) -> None:
    distributor = make(1)
    distributor.start()
    blocker = distributor.submit("sleep 1000")
    ids = distributor.submit_array("false", 20_000)
    distributor.terminate(ids)
    assert distributor.submitted_or_running() == {blocker}
    assert len(distributor.completed()) == 20_000


def test_stop_runs_nothing_more(make: Make, tmp_path: Path, fifo: Path) -> None:
    distributor = make(1)
    distributor.start()
    running = distributor.submit(f"echo $$ > {fifo}; exec sleep 1000")
    queued = distributor.submit_array(f"touch {tmp_path}/ran", 100)
    pid = int(fifo.read_text())
    distributor.stop()
    assert not alive(pid)
    assert not (tmp_path / "ran").exists()
    assert distributor.submitted_or_running() == set()
    info = distributor.exit_info(running)
    assert info is not None
    assert info.signal == signal.SIGTERM
    info = distributor.exit_info(queued[0])
    assert info is not None
    assert (info.terminated, info.start) == (True, 0.0)
    distributor.stop()
    distributor.start()
    again = distributor.submit("true")
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(again)
    assert info is not None
    assert info.ok


def test_stop_is_bounded(make: Make, fifo: Path, await_end: Callable[[int], None]) -> None:
    distributor = make(grace=1000)
    distributor.start()
    distributor.submit(f"trap '' TERM; echo $$ > {fifo}; while :; do sleep 1000; done")
    pid = int(fifo.read_text())
    distributor.stop(timeout=1)
    await_end(pid)  # by the keeper, if the supervisor was late and killed


def test_daemons_end_with_the_distributor(distributor: CommandDistributor, fifo: Path) -> None:
    # The shell must not end, and its group with it, before the daemon has left the group.
    here = f"{fifo}-here"
    os.mkfifo(here)
    daemon_ = f"setsid sh -c 'echo $$ > {here}; exec sleep 1000'"
    distributor.submit(f"({daemon_} &); read pid < {here}; echo $pid > {fifo}")
    daemon = int(fifo.read_text())
    assert distributor.wait(timeout=60)
    assert alive(daemon)
    distributor.stop()
    assert not alive(daemon)


def test_the_group_ends_with_its_command(
    distributor: CommandDistributor, fifo: Path, await_end: Callable[[int], None]
) -> None:
    distributor.submit(f"sleep 1000 & echo $! > {fifo}")
    left = int(fifo.read_text())
    assert distributor.wait(timeout=60)
    await_end(left)


def test_ids_differ_between_runs() -> None:
    script = (
        "from ringwalk.distributors import CommandDistributor\n"
        "import os\n"
        "names = [CommandDistributor(1).submit('true') for _ in range(2)]\n"
        "print(*names, flush=True)\n"
        "if os.fork() == 0:\n"
        "    print(CommandDistributor(1).submit('true'), flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    seen: list[str] = []
    for _ in range(2):
        seen += subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert len(set(seen)) == 6


def test_a_fork_is_refused(distributor: CommandDistributor) -> None:
    child = os.fork()
    if child == 0:
        try:
            distributor.submit("true")
        except ForkedError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("command", ["", "  ", [], [1], b"true", "a\0b", None])
def test_bad_commands_are_refused(make: Make, command: object) -> None:
    distributor = make()
    with pytest.raises(ConfigError):
        distributor.submit(command)  # type: ignore[arg-type]
    assert distributor.submitted_or_running() == set()


def test_bad_options_are_refused(make: Make) -> None:
    for parallelism in (0, -1, True, 1.5):
        with pytest.raises(ConfigError, match="parallelism"):
            CommandDistributor(parallelism)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="grace"):
        CommandDistributor(1, grace=-1)
    with pytest.raises(ConfigError, match="length"):
        make().submit_array("true", -1)
    with pytest.raises(ConfigError, match="name"):
        make().submit("true", name="a/b")


def test_forgotten_distributors_leave_nothing(fifo: Path) -> None:
    distributor = CommandDistributor(1)
    distributor.start()
    distributor.submit(f"echo $$ > {fifo}; exec sleep 1000")
    pid = int(fifo.read_text())
    del distributor
    assert not alive(pid)


def test_stop_from_another_thread_ends_a_wait_with_closed_error(
    distributor: CommandDistributor,
) -> None:
    ids = distributor.submit_array("sleep 600", 4)
    stopping = threading.Timer(0.3, distributor.stop)
    stopping.start()
    with pytest.raises(ClosedError, match="stop"):
        distributor.wait()
    stopping.join()
    assert not any(info.ok for info in map(distributor.exit_info, ids) if info is not None)
    distributor.start()
    distributor.submit("true")
    assert distributor.wait()


def test_a_progress_function_that_raises_keeps_no_supervisor(
    make: Callable[..., CommandDistributor],
) -> None:
    def progress(ended: int, of: int) -> None:
        raise LookupError("progress")

    distributor = make(progress=progress)
    distributor.start()
    distributor.submit("sleep 600")
    with pytest.raises(LookupError, match="progress"):
        distributor.stop()
