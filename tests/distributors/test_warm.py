"""Warm start: a task that was forked finds what a fresh process would find."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ringwalk._core.spawn import snapshot
from ringwalk.distributors import CommandDistributor, ExitInfo
from ringwalk.distributors.channel import Submit
from ringwalk.distributors.journal import SINGLE
from ringwalk.distributors.launch import Environment, Task
from ringwalk.distributors.warm import Nursery
from ringwalk.workers.command import Program

Make = Callable[..., CommandDistributor]

TOOL = """
import atexit, gc, json, logging, os, random, signal, sys, threading

import heavy

def state():
    return {
        "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path": sys.path,
        "name": __name__, "file": __file__,
        "package": __package__, "flags": list(sys.flags), "cwd": os.getcwd(),
        "environ": {k: v for k, v in os.environ.items()
                    if k not in ("JOB_ID", "RINGWALK_COMMAND")},
        "umask": os.umask(0o22), "handlers": logging.getLogger().handlers,
        "signals": {n: str(signal.getsignal(n)) for n in (1, 2, 10, 13, 14, 15, 17, 25)},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "wakeup": signal.set_wakeup_fd(-1), "fds": sorted(os.listdir("/proc/self/fd"))[:-1],
        "buffering": [sys.stdin.line_buffering, sys.stdout.line_buffering,
                      sys.stderr.line_buffering],
        "encoding": [sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors],
        "stdin": sys.stdin.read(), "threads": threading.active_count(),
        "leader": os.getpgrp() == os.getpid(), "imported": "tool" in sys.modules,
        "main": sys.modules["__main__"].state is state,
        "garbage": [gc.isenabled(), gc.get_threshold()],
    }

def main():
    print(json.dumps([state(), {"pid": os.getpid(), "random": random.random(), "heavy": heavy.PID,
                                "value": heavy.VALUE}]))
    sys.stdout.flush()
    what = sys.argv[1] if len(sys.argv) > 1 else "0"
    atexit.register(lambda: print("at exit", file=sys.stderr))
    if what == "raise":
        raise ValueError("no")
    if what == "text":
        sys.exit("words")
    if what == "thread":
        threading.Timer(0.01, lambda: print("thread", file=sys.stderr)).start()
    if what == "kill":
        os.kill(os.getpid(), 9)
    if what == "wait":
        open(sys.argv[2]).read()
    if what.isdigit():
        sys.exit(int(what))

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module ``tool`` that imports ``heavy``, and a console script for it."""
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "tool.py").write_text(TOOL)
    (folder / "heavy.py").write_text("import os\nPID = os.getpid()\nVALUE = 1\n")
    script = tmp_path / "bin" / "run-tool"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom tool import main\n"
        "from tool import state\nif __name__ == '__main__':\n    sys.exit(main())\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    return folder


def run(distributor: CommandDistributor, command: Any, **options: Any) -> ExitInfo:
    name = distributor.submit(command, **options)
    assert distributor.wait([name], timeout=60)
    info = distributor.exit_info(name)
    assert info is not None
    return info


def output(folder: Path, info: ExitInfo) -> tuple[Any, dict[str, Any], str]:
    state, private = json.loads((folder / f"command.o{info.id}").read_text())
    return state, private, (folder / f"command.e{info.id}").read_text()


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "tool", "3", "two words"],
        f"{sys.executable} -m tool 3",
        ["run-tool", "3"],
        "run-tool 0",
    ],
    ids=str,
)
def test_a_task_is_as_a_fresh_process(make: Make, tool: Path, tmp_path: Path, command: Any) -> None:
    seen = []
    for warm in ([], ["tool"]):
        distributor = make(output=tmp_path / "out", warm=warm)
        distributor.start()
        info = run(distributor, command, env={"EXTRA": "1"})
        assert info.warm == bool(warm)
        state, private, errors = output(tmp_path / "out", info)
        assert (private["pid"] == private["heavy"]) != bool(warm)
        seen.append((state, errors, info.exit_code))
    fresh, warm_ = seen[0][0], seen[1][0]
    assert warm_["leader"]
    fresh["leader"] = True  # of a string it is the shell
    assert {key: (fresh[key], warm_[key]) for key in fresh if fresh[key] != warm_[key]} == {}
    assert seen[0][1:] == seen[1][1:]
    assert seen[0][1] == "at exit\n"


@pytest.mark.parametrize("how", ["raise", "text", "thread", "kill", "255"])
def test_it_ends_as_a_fresh_process(make: Make, tool: Path, tmp_path: Path, how: str) -> None:
    seen = []
    for warm in ([], ["tool"]):
        distributor = make(output=tmp_path / "out", warm=warm)
        distributor.start()
        info = run(distributor, [sys.executable, "-m", "tool", how])
        assert info.warm == bool(warm)
        *_, errors = output(tmp_path / "out", info)
        seen.append((errors.splitlines()[-2:], info.exit_code, info.signal))
    assert seen[0] == seen[1]


def test_siblings_do_not_share_random_numbers(make: Make, tool: Path, tmp_path: Path) -> None:
    distributor = make(output=tmp_path / "out", warm=["tool"])
    distributor.start()
    infos = [run(distributor, [sys.executable, "-m", "tool"]) for _ in range(3)]
    privates = [output(tmp_path / "out", info)[1] for info in infos]
    assert len({private["random"] for private in privates}) == 3
    assert len({private["heavy"] for private in privates}) == 1  # one template for all


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "import tool"],
        [sys.executable, "-m", "heavy"],
        f"{sys.executable} -m tool; true",
        "sh -c true",
    ],
    ids=str,
)
def test_what_is_not_recognised_starts_afresh(make: Make, tool: Path, command: Any) -> None:
    distributor = make(warm=["tool"], stdout=-3)
    distributor.start()
    info = run(distributor, command)
    assert (info.exit_code, info.warm) == (0, False)


def test_variables_of_the_interpreter_need_a_fresh_start(make: Make, tool: Path) -> None:
    distributor = make(warm=["tool"], stdout=-3)
    distributor.start()
    info = run(distributor, [sys.executable, "-m", "tool"], env={"PYTHONHASHSEED": "1"})
    assert (info.exit_code, info.warm) == (0, False)


def test_another_environment_means_another_template(
    make: Make, tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributor = make(output=tmp_path / "out", warm=["tool"])
    distributor.start()
    first = run(distributor, [sys.executable, "-m", "tool"])
    monkeypatch.setenv("RINGWALK_TEST", "1")
    second = run(distributor, [sys.executable, "-m", "tool"])
    privates = [output(tmp_path / "out", info)[1] for info in (first, second)]
    assert privates[0]["heavy"] != privates[1]["heavy"]
    assert output(tmp_path / "out", second)[0]["environ"]["RINGWALK_TEST"] == "1"
    assert first.warm
    assert second.warm


def test_changed_code_means_another_template(make: Make, tool: Path, tmp_path: Path) -> None:
    distributor = make(output=tmp_path / "out", warm=["tool"])
    distributor.start()
    command = [sys.executable, "-m", "tool"]
    assert output(tmp_path / "out", run(distributor, command))[1]["value"] == 1
    (tool / "heavy.py").write_text("import os\nPID = os.getpid()\nVALUE = 22\n")
    seen = 1
    for _ in range(10_000):  # at most a second of them
        info = run(distributor, command)
        seen = output(tmp_path / "out", info)[1]["value"]
        if seen == 22:
            break
    assert seen == 22
    assert info.warm


def test_a_module_that_is_not_there_is_the_commands_own_affair(make: Make, tmp_path: Path) -> None:
    distributor = make(output=tmp_path, warm=["no_such_module"])
    distributor.start()
    info = run(distributor, [sys.executable, "-m", "no_such_module"])
    assert (info.exit_code, info.warm) == (1, False)
    assert "No module named no_such_module" in (tmp_path / f"command.e{info.id}").read_text()


def test_tasks_survive_their_template(make: Make, tool: Path, tmp_path: Path, fifo: Path) -> None:
    distributor = make(output=tmp_path / "out", warm=["tool"])
    distributor.start()
    assert run(distributor, [sys.executable, "-m", "tool"]).warm
    name = distributor.submit([sys.executable, "-m", "tool", "wait", str(fifo)])
    with open(fifo, "w"):  # it is running now
        state = json.loads((tmp_path / "out" / f"command.o{name}").read_text())
        os.kill(state[1]["heavy"], signal.SIGKILL)
        again = run(distributor, [sys.executable, "-m", "tool", "5"])
        assert again.exit_code == 5
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(name)
    assert info is not None
    assert (info.exit_code, info.signal, info.error) == (0, None, None)
    assert run(distributor, [sys.executable, "-m", "tool"]).warm


def test_warm_tasks_are_terminated(make: Make, tool: Path, tmp_path: Path, fifo: Path) -> None:
    distributor = make(output=tmp_path / "out", warm=["tool"])
    distributor.start()
    early = distributor.submit([sys.executable, "-m", "tool"])
    distributor.terminate([early])  # most likely while the template still imports
    late = distributor.submit([sys.executable, "-m", "tool", "wait", str(fifo)])
    with open(fifo, "w"):
        distributor.terminate([late])
        assert distributor.wait(timeout=60)
    info = distributor.exit_info(late)
    assert info is not None
    assert (info.signal, info.warm, info.terminated) == (signal.SIGTERM, True, True)
    info = distributor.exit_info(early)
    assert info is not None
    assert info.terminated


class Host:
    """A supervisor that has nothing but a template; kills its task before that may begin."""

    def __init__(self) -> None:
        self.acts: dict[int, Callable[[int], None]] = {}
        self.statuses: list[int | None] = []
        self.watch = self.acts.__setitem__
        self.unwatch = self.acts.__delitem__

    def born(self, task: Task) -> None:
        self.watch(task.pidfd, lambda _: self.ended(task))

    def ended(self, task: Task) -> None:
        self.unwatch(task.pidfd)
        os.close(task.pidfd)
        task.warden.reap(task)

    def refused(self, task: Task) -> None:
        raise AssertionError("the template has the module")

    def reaped(self, task: Task, status: int | None, used: Sequence[float]) -> None:
        self.statuses.append(status)
        task.warden.retire()

    def serve(self) -> None:
        while self.acts:
            poll = select.poll()
            for fd in self.acts:
                poll.register(fd, select.POLLIN)
            for fd, events in poll.poll(60_000):
                if fd in self.acts:
                    self.acts[fd](events)


def test_a_task_that_is_killed_before_it_begins(
    tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    birth = Nursery._birth

    def killed_first(nursery: Nursery, task: Task) -> None:
        signal.pidfd_send_signal(task.pidfd, signal.SIGKILL)
        assert select.select([task.pidfd], [], [], 60)[0]
        birth(nursery, task)

    monkeypatch.setattr(Nursery, "_birth", killed_first)
    host = Host()
    nursery = Nursery(host, ["tool"], ("RINGWALK_COMMAND", "mark"))
    job = Submit(1, None, [sys.executable, "-m", "tool"], None, {}, str(tmp_path), None, None)
    task = Task("1", job, Program(job.command), Environment(snapshot()), SINGLE, "mark", 0.0)
    try:
        assert nursery.start(task, {})
        host.serve()
    finally:
        nursery.close()
    assert host.statuses == [signal.SIGKILL]
