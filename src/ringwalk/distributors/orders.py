"""What a distributor was asked to run, on its way to the supervisor.

    arguments --make--> Submit --(said to the supervisor)--> sent
                           `--keep, as long as there is none--> release

Refuses what cannot be a command, gives job numbers that no other run has, and sends the environment
only when it changed. Does not: know what has become of anything.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ringwalk._core.spawn import snapshot
from ringwalk.distributors.channel import Submit
from ringwalk.distributors.journal import Kind, Record
from ringwalk.errors import ConfigError

PathLike: TypeAlias = str | os.PathLike[str]

# Job numbers are unique across runs, so that no run overwrites another's output. Milliseconds
# since 2025 at the import, counted up by this process's distributors, then digits of its id.
_EPOCH = 1_735_689_600
_JOBS = itertools.count(int((time.time() - _EPOCH) * 1000))
_PIDS = 10_000


class Orders:
    """Makes the orders of one distributor, and keeps those that nobody can take yet.

    Args:
        output: folder for the commands' output files; None if they have none.
    """

    def __init__(self, output: PathLike | None) -> None:
        self._output = None if output is None else Path(output).absolute()
        self._digits = os.getpid() % _PIDS
        self._kept: list[Submit] = []
        self._environ: list[bytes] | None = None  # as the supervisor knows it

    def make(
        self,
        command: str | Sequence[str],
        length: int | None,
        name: str,
        env: Mapping[str, str] | None,
        cwd: PathLike | None,
    ) -> Submit:
        """One order, of ``length`` steps if it is an array; see ``CommandDistributor.submit``."""
        what = _checked(command)
        _check_text("name", name)
        if "/" in name:
            raise ConfigError(f"name is {name!r}; it becomes part of a file name, so no '/' in it")
        extra = _checked_env(env or {})
        folder = _checked_folder(cwd)
        environ = snapshot(self._environ)
        stdout = stderr = None
        if self._output is not None:
            self._output.mkdir(parents=True, exist_ok=True)
            stdout, stderr = (str(self._output / f"{name}.{kind}{{id}}") for kind in "oe")
        return Submit(
            next(_JOBS) * _PIDS + self._digits,
            None if length is None else range(length),
            what,
            None if environ is self._environ else environ,
            extra,
            folder,
            stdout,
            stderr,
        )

    def sent(self, job: Submit) -> None:
        """The supervisor has this one, and so its environment."""
        if job.environ is not None:
            self._environ = job.environ

    def forget(self) -> None:
        """Another supervisor is to know nothing, or nobody can tell what this one knows."""
        self._environ = None

    def keep(self, job: Submit) -> None:
        """There is no supervisor yet."""
        self._kept.append(job)

    def release(self) -> list[Submit]:
        """All that were kept, in order. They are no more kept."""
        kept, self._kept = self._kept, []
        return kept

    def take_back(self, job: Submit) -> None:
        """Do not keep this one, if it was kept."""
        self._kept = [other for other in self._kept if other.job != job.job]

    def drop(self, ids: Iterable[str]) -> list[Record]:
        """Keep none of these any more; what became of them."""
        gone = set(ids)
        dropped, left = [], []
        for job in self._kept:
            names = job.ids()
            dropped += [
                Record(Kind.DROPPED, 0, job.job, names[name], terminated=True, end=time.time())
                for name in gone & names.keys()
            ]
            steps = [step for name, step in names.items() if name not in gone]
            if steps:
                left.append(job if job.steps is None else job._replace(steps=steps))
        self._kept = left
        return dropped


def _checked(command: str | Sequence[str]) -> str | list[str]:
    words = [command] if isinstance(command, str) else command
    # A list first: to ask for a Sequence takes longer than all the rest.
    if not isinstance(words, (list, Sequence)) or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"command is {command!r}; pass a string or a sequence of strings")
    if not words or not words[0].strip():
        raise ConfigError("command is empty; pass a shell command, or a program and its arguments")
    _check_text("command", "".join(words), command)
    return command if isinstance(command, str) else list(words)


def _check_text(what: str, text: Any, shown: Any = None) -> None:
    """What the kernel is given is bytes that end with a NUL."""
    shown = text if shown is None else shown
    if not isinstance(text, str):
        raise ConfigError(f"{what} is {shown!r}; pass a string")
    if "\0" in text:
        raise ConfigError(f"{what} is {shown!r}; it cannot hold a NUL character")
    if text.isascii():
        return
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} is {shown!r}, which cannot be encoded: {error}") from error


def _checked_env(env: Mapping[str, str]) -> dict[str, str]:
    for name, value in env.items():
        _check_text("the name of a variable in env", name)
        _check_text(f"env[{name!r}]", value)
        if not name or "=" in name:
            raise ConfigError(
                f"env has a variable named {name!r}; a name is not empty, without '='"
            )
    return dict(env)


def _checked_folder(cwd: PathLike | None) -> str:
    if cwd is not None:
        _check_text("cwd", os.fspath(cwd))
    try:
        return os.getcwd() if cwd is None else os.path.abspath(cwd)
    except FileNotFoundError as error:
        raise ConfigError(
            "the current working directory was removed; change to another, or pass cwd="
        ) from error
