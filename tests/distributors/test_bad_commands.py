"""One command that cannot be started takes no other along, whatever is wrong with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringwalk.distributors import CommandDistributor
from ringwalk.distributors.channel import Submit
from ringwalk.errors import ConfigError

Make = Callable[..., CommandDistributor]

REFUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "NUL in the command": ("echo \0", {}),
    "NUL in an argument": (["echo", "\0"], {}),
    "NUL in a variable": ("true", {"env": {"A": "\0"}}),
    "NUL in a variable's name": ("true", {"env": {"A\0B": ""}}),
    "NUL in the folder": ("true", {"cwd": "/tmp\0"}),
    "NUL in the name": ("true", {"name": "a\0"}),
    "= in a variable's name": ("true", {"env": {"A=B": ""}}),
    "a variable without a name": ("true", {"env": {"": "a"}}),
    "a number as a variable": ("true", {"env": {"A": 1}}),
    "bytes as a folder": ("true", {"cwd": b"/tmp"}),
    "a number as a name": ("true", {"name": 3}),
    "a lone surrogate": ("echo \ud800", {}),
    "a lone surrogate in a variable": ("true", {"env": {"A": "\ud800"}}),
    "a lone surrogate in the folder": ("true", {"cwd": "/\ud800"}),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("started", [False, True])
def test_what_no_program_can_be_given_is_refused_at_submit(
    make: Make, case: str, started: bool
) -> None:
    command, options = REFUSED[case]
    distributor = make()
    if started:
        distributor.start()
    before = distributor.submit("true")
    with pytest.raises(ConfigError):
        distributor.submit(command, **options)
    with pytest.raises(ConfigError):
        distributor.submit_array(command, 2, **options)
    if not started:
        distributor.start()
    after = distributor.submit("true")
    assert distributor.wait(timeout=60)
    for name in before, after:
        info = distributor.exit_info(name)
        assert info is not None
        assert info.exit_code == 0


def unstartable(tmp_path: Path) -> list[tuple[Any, dict[str, Any]]]:
    (tmp_path / "file").write_text("")
    (tmp_path / "not_executable").write_text("#!/bin/sh\n")
    (tmp_path / "no_interpreter").write_text("#!/nowhere\n")
    (tmp_path / "no_interpreter").chmod(0o755)
    (tmp_path / "removed").mkdir()
    return [
        ("true", {"cwd": tmp_path / "file"}),
        ("true", {"cwd": tmp_path / "removed"}),
        ([str(tmp_path / "not_executable")], {}),
        ([str(tmp_path / "no_interpreter")], {}),
        (["/nowhere"], {}),
        (["echo", "x" * 200_000], {}),  # more than the kernel takes for one argument
        (["echo", *["x" * 100_000] * 100], {}),  # more than it takes in all
        ("true", {"env": {"A": "x" * 200_000}}),
    ]


def test_what_cannot_be_started_takes_no_other_along(make: Make, tmp_path: Path) -> None:
    distributor = make()
    distributor.start()
    cases = unstartable(tmp_path)
    (tmp_path / "removed").rmdir()
    good, bad = [distributor.submit("exit 7")], []
    for command, options in cases:
        bad.append(distributor.submit(command, **options))
        good.append(distributor.submit("exit 7"))
    assert distributor.wait(timeout=60)
    infos = [distributor.exit_info(name) for name in good]
    assert [info and info.exit_code for info in infos] == [7] * len(good)
    for name, case in zip(bad, cases, strict=True):
        info = distributor.exit_info(name)
        assert info is not None, case
        assert info.exit_code != 0, case


def test_the_supervisor_outlives_what_submit_should_have_refused(make: Make) -> None:
    """As from a later version, or a caller that went round ``submit``."""
    distributor = make()
    distributor.start()
    assert distributor.submit("true")
    for part in ({"extra": {"A": "\0"}}, {"cwd": "\0"}, {"command": ["\0"]}, {"command": 3}):
        order: Submit = distributor._orders.make("true", 2, "command", None, None)._replace(**part)
        names = distributor._submit(order)
        assert distributor.wait(names, timeout=60)
    last = distributor.submit("exit 7")
    assert distributor.wait(timeout=60)
    info = distributor.exit_info(last)
    assert info is not None
    assert info.exit_code == 7


def test_a_removed_folder_is_refused_with_what_to_do(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ConfigError, match="was removed; change to another, or pass cwd="):
        make().submit("true")


FRONTS = """
import os, sys
from ringwalk import Executor, TaskMapper, WorkerMapper
from ringwalk.distributors import CommandDistributor
if len(sys.argv) > 1:
    import signal
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def dies_once(k):
    flag = os.path.join(os.environ["FLAGS"], str(os.getppid()) + "-" + str(k))
    if k == 2 and not os.path.exists(os.environ["FLAGS"] + "/died"):
        open(os.environ["FLAGS"] + "/died", "w").close()
        os._exit(3)
    return k
for front in (WorkerMapper, TaskMapper):
    with front(dies_once, num_workers=2) as mapper:
        print(mapper.map(range(4)))
    os.remove(os.environ["FLAGS"] + "/died")
with Executor(1) as executor:
    print(executor.submit(os._exit, 3).exception().exitcode, executor.submit(abs, -3).result())
distributor = CommandDistributor(2)
distributor.start()
names = [distributor.submit(f"exit {k}") for k in range(5)]
distributor.wait()
print([distributor.exit_info(name).exit_code for name in names])
distributor.stop()
"""


@pytest.mark.parametrize("how", ["in the program", "inherited"])
def test_all_fronts_work_where_sigchld_is_ignored(how: str, tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = subprocess.run(
        [sys.executable, "-c", FRONTS, *(["ignore"] if how == "in the program" else [])],
        env={**os.environ, "FLAGS": str(tmp_path)},
        preexec_fn=ignore if how == "inherited" else None,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.splitlines() == [
        "[0, 1, 2, 3]",
        "[0, 1, 2, 3]",
        "3 3",
        "[0, 1, 2, 3, 4]",
    ], done.stderr
