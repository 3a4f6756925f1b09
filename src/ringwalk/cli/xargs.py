"""``ringwalk xargs``: run the lines of a file, or of standard input, as commands.

What GNU parallel's users know of the basics: ``-P``, ``{}``, retries, a joblog in its format, and
resuming from it. Commands write straight to this process's output, or each to files of its own
with ``--output``; lines of different commands may mix on the former.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ringwalk.config import resolve_num_workers
from ringwalk.distributors import CommandDistributor, ExitInfo
from ringwalk.errors import ConfigError

_HEAD = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
_COLUMNS = 9
_INTERRUPTED = 128 + signal.SIGINT


@dataclass(slots=True)
class Job:
    """One line's command; numbered from 1, as in a joblog."""

    number: int
    command: str
    attempts: int = 0


def add_xargs(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("-a", "--arg-file", type=Path, metavar="FILE", help="read lines from FILE, not from stdin")
    add(
        "-P",
        "--max-procs",
        type=int,
        metavar="N",
        help="commands at a time (default: one a usable core)",
    )
    add("--retries", type=int, default=0, metavar="N", help="run a failed command N times more")
    add("--joblog", type=Path, metavar="FILE", help="write when each command ran and how it ended")
    add("--resume", action="store_true", help="skip what the joblog has; go on writing it")
    add("--resume-failed", action="store_true", help="like --resume, but run what failed again")
    add("--output", type=Path, metavar="DIR", help="files DIR/<line>.o<id> and .e<id> for output")
    add(
        "--warm",
        action="append",
        default=[],
        metavar="MODULE",
        help="import MODULE once and fork `python -m MODULE` from it; may be repeated",
    )
    add("--no-progress", dest="progress", action="store_false", help="show no progress bar")
    add(
        "command",
        nargs=argparse.REMAINDER,
        help="command to run for each line, put in for {} or else at its end; without a command, "
        "the lines are the commands",
    )
    parser.set_defaults(run=run_xargs)


def run_xargs(options: argparse.Namespace) -> int:
    """Run all; 0 if every command exited with 0, 1 if one did not."""
    if options.retries < 0:
        raise ConfigError(f"--retries is {options.retries}; pass 0 or more")
    resume = options.resume or options.resume_failed
    if resume and options.joblog is None:
        raise ConfigError("--resume and --resume-failed need the --joblog to resume from")
    done = _read_joblog(options.joblog, options.resume_failed) if resume else {}
    jobs = []
    with _opened(options.arg_file) as lines:
        for job in _jobs(lines, options.command):
            if done.get(job.number, job.command) != job.command:
                raise ConfigError(
                    f"line {job.number} is {job.command!r}, but {done[job.number]!r} in "
                    f"{options.joblog}; resume with the same lines, or with another joblog"
                )
            if job.number not in done:
                jobs.append(job)
    with ExitStack() as stack:
        log = stack.enter_context(_joblog(options.joblog, resume)) if options.joblog else None
        distributor = stack.enter_context(
            CommandDistributor(
                resolve_num_workers(options.max_procs),
                output=options.output,
                warm=options.warm,
                progress=options.progress,
            )
        )
        try:
            failed = _run(distributor, jobs, 1 + options.retries, log)
        except KeyboardInterrupt:
            return _INTERRUPTED
    if failed:
        print(f"ringwalk: {failed} of {len(jobs)} commands failed", file=sys.stderr)
    return 1 if failed else 0


def _run(
    distributor: CommandDistributor,
    jobs: Iterable[Job],
    attempts: int,
    log: TextIO | None,
) -> int:
    """How many failed for good."""
    running = {distributor.submit(job.command, name=str(job.number)): job for job in jobs}
    failed = 0
    while running:
        for info in distributor.completed():
            job = running.pop(info.id)
            job.attempts += 1
            if not info.ok and job.attempts < attempts:
                running[distributor.submit(job.command, name=str(job.number))] = job
                continue
            failed += not info.ok
            if info.error is not None:
                print(f"ringwalk: line {job.number}: {info.error}", file=sys.stderr)
            if log is not None:
                log.write(_line(job, info))
                log.flush()
    return failed


def _jobs(lines: Iterable[str], command: list[str]) -> Iterator[Job]:
    number = 0
    for line in lines:
        text = line.rstrip("\n")
        if not text.strip():
            continue
        number += 1
        yield Job(number, _composed(command, text) if command else text)


def _composed(command: list[str], line: str) -> str:
    """As a shell would read it, with the line as one word."""
    words = command if any("{}" in word for word in command) else [*command, "{}"]
    return " ".join(shlex.quote(word.replace("{}", line)) for word in words)


def _opened(path: Path | None) -> TextIO:
    if path is None:
        return open(sys.stdin.fileno(), closefd=False)
    try:
        return path.open()
    except OSError as error:
        raise ConfigError(f"cannot read the lines: {error}") from error


def _joblog(path: Path, resume: bool) -> TextIO:
    try:
        log = path.open("a" if resume else "w")
    except OSError as error:
        raise ConfigError(f"cannot write the joblog: {error}") from error
    if log.tell() == 0:
        log.write(_HEAD)
        log.flush()
    return log


def _read_joblog(path: Path, only_successes: bool) -> dict[int, str]:
    """Number and command of what need not run again; a line cut short by a crash is none."""
    if not path.exists():
        return {}
    done: dict[int, str] = {}
    for line in path.read_text().splitlines(keepends=True)[1:]:
        fields = line.rstrip("\n").split("\t", _COLUMNS - 1)
        if len(fields) < _COLUMNS or not line.endswith("\n"):
            continue
        if only_successes and fields[6:8] != ["0", "0"]:
            done.pop(int(fields[0]), None)
        else:
            done[int(fields[0])] = fields[8]
    return done


def _line(job: Job, info: ExitInfo) -> str:
    # Without a status GNU parallel has nothing to say; a shell's "cannot be run" comes closest.
    code = 126 if info.error is not None else info.exit_code or 0
    times = f"{info.start:.3f}\t{info.wall:10.3f}"
    return f"{job.number}\t:\t{times}\t0\t0\t{code}\t{info.signal or 0}\t{job.command}\n"
