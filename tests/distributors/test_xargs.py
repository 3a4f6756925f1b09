"""``ringwalk xargs``: lines in, commands run, a joblog to resume from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ringwalk.cli import main

Xargs = Callable[..., int]


@pytest.fixture
def xargs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Xargs:
    """Runs the command line in an empty folder on these lines."""
    monkeypatch.chdir(tmp_path)

    def run(lines: list[str], *arguments: str) -> int:
        (tmp_path / "lines").write_text("".join(f"{line}\n" for line in lines))
        return main(["xargs", "-a", "lines", "-P", "2", *arguments])

    return run


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()[1:]]


def test_lines_are_commands(xargs: Xargs, capfd: pytest.CaptureFixture[str]) -> None:
    assert xargs(["echo $((1 + 1))", "", "echo 'a  b'"]) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["2", "a  b"]


def test_lines_are_arguments(xargs: Xargs, capfd: pytest.CaptureFixture[str]) -> None:
    lines = ["it's; one", "$HOME"]
    assert xargs(lines, "printf", "<%s>\n") == 0
    assert xargs(lines, "printf", "<%s>\n", "x{}y") == 0
    out = sorted(capfd.readouterr().out.splitlines())
    assert out == sorted(["<it's; one>", "<$HOME>", "<xit's; oney>", "<x$HOMEy>"])


def test_standard_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ringwalk", "xargs", "-P", "2"],
        input="cat; echo one\necho two\n",  # a command does not read on where we do
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(done.stdout.split()) == ["one", "two"]
    assert done.stderr == ""


def test_output_goes_to_files(xargs: Xargs, tmp_path: Path) -> None:
    assert xargs(["echo one", "echo two >&2"], "--output", "out") == 0
    assert [path.read_text() for path in (tmp_path / "out").glob("1.o*")] == ["one\n"]
    assert [path.read_text() for path in (tmp_path / "out").glob("2.e*")] == ["two\n"]


def test_failures_are_retried_and_told(
    xargs: Xargs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flaky = "echo . >> tries; test $(wc -l < tries) -ge 3"
    assert xargs([flaky, "true"], "--retries", "2", "--joblog", "log") == 0
    assert [row[6] for row in rows(tmp_path / "log")] == ["0", "0"]
    assert capfd.readouterr().err == ""
    assert xargs(["exit 3", "kill -9 $$", "true"], "--retries", "1", "--joblog", "log") == 1
    assert capfd.readouterr().err == "ringwalk: 2 of 3 commands failed\n"
    ends = {row[0]: (row[6], row[7], row[8]) for row in rows(tmp_path / "log")}
    assert ends == {
        "1": ("3", "0", "exit 3"),
        "2": ("0", "9", "kill -9 $$"),
        "3": ("0", "0", "true"),
    }


def test_resume(xargs: Xargs, tmp_path: Path) -> None:
    lines = ["echo a >> ran", "echo b >> ran; test -e fixed", "echo c >> ran"]
    assert xargs(lines[:2], "--joblog", "log") == 1
    with (tmp_path / "log").open("a") as log:
        log.write("3\t:\t1.0")  # cut short by a crash
    (tmp_path / "log").write_text((tmp_path / "log").read_text() + "\n")
    assert xargs(lines, "--joblog", "log", "--resume") == 0
    assert sorted((tmp_path / "ran").read_text().split()) == ["a", "b", "c"]
    (tmp_path / "fixed").touch()
    assert xargs(lines, "--joblog", "log", "--resume-failed") == 0
    assert sorted((tmp_path / "ran").read_text().split()) == ["a", "b", "b", "c"]
    assert xargs(lines, "--joblog", "log", "--resume-failed") == 0
    assert sorted((tmp_path / "ran").read_text().split()) == ["a", "b", "b", "c"]


@pytest.mark.parametrize(
    "arguments",
    [["--resume"], ["--retries", "-1"], ["-P", "0"], ["-a", "none"], ["--joblog", "no/such"]],
    ids=str,
)
def test_bad_arguments_are_refused(
    xargs: Xargs, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert xargs(["touch ran"], *arguments) == 2
    assert capsys.readouterr().err.startswith("ringwalk: ")
    assert not Path("ran").exists()


def test_another_list_is_not_resumed(xargs: Xargs, capsys: pytest.CaptureFixture[str]) -> None:
    assert xargs(["true"], "--joblog", "log") == 0
    assert xargs(["touch ran"], "--joblog", "log", "--resume") == 2
    assert "same lines" in capsys.readouterr().err


def test_interrupt_ends_the_commands(tmp_path: Path, fifo: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ringwalk", "xargs", "-P", "2", "sh", "-c"],
        stdin=subprocess.PIPE,
        start_new_session=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert process.stdin is not None
    process.stdin.write(f"echo $$ > {fifo}; exec sleep 1000\n")
    process.stdin.close()
    command = int(fifo.read_text())
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in (130, -signal.SIGINT)
    assert not Path(f"/proc/{command}").exists()
