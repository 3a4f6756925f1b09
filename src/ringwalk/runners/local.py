"""LocalRunner: a shell command a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

from ringwalk.memory import RunTable
from ringwalk.runners.attempt import Outcome, describe_exit
from ringwalk.runners.base import Runner, RunnerOptions
from ringwalk.workers.command import Command, Program

Environment = Mapping[str, str] | Callable[[int], Mapping[str, str]]


class LocalRunner(Runner):
    """Executes a command for each run, in a process group of its own.

        LocalRunner("./simulate", table, log_dir="log", timeout=3600)

    The command finds ``RINGWALK_RUN_ID`` in its environment, and ``RINGWALK_TABLE``, the path of
    a table that is a file; ``ringwalk.memory.Table.attach`` opens that. Exit code 0 is success.

    Args:
        command: for ``sh -c`` if a string; executed as it is if a sequence.
        env: added to this process's environment; a function makes it from the run's number.
        cwd: folder to run in; default: this process's.
        log_dir: where each run's output and errors go, one file a run; without, where ours go.

    and those of ``Runner``.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        table: RunTable | None = None,
        *,
        env: Environment | None = None,
        cwd: str | os.PathLike[str] | None = None,
        **options: Unpack[RunnerOptions],
    ) -> None:
        super().__init__(table, **options)
        self.command = command
        self._program = Program(command)
        self._env = env
        self._cwd = cwd

    def _start(self, run_id: int) -> _CommandAttempt:
        env = {"RINGWALK_RUN_ID": str(run_id)}
        if self.table is not None and self.table.path is not None:
            env["RINGWALK_TABLE"] = str(self.table.path)
        if self._env is not None:
            env.update(self._env(run_id) if callable(self._env) else self._env)
        path = self._log(run_id)
        if path is None:
            return _CommandAttempt(self._launcher.start(self._program, env=env, cwd=self._cwd))
        with path.open("wb") as log:
            command = self._launcher.start(
                self._program, env=env, cwd=self._cwd, output=log.fileno()
            )
        return _CommandAttempt(command)


class _CommandAttempt:
    def __init__(self, command: Command) -> None:
        self._command = command

    def filenos(self) -> tuple[int, ...]:
        return (self._command.fileno(),)

    def outcome(self) -> Outcome | None:
        code = self._command.returncode
        if code is None:
            return None
        return Outcome(True, 0) if code == 0 else Outcome(False, code, describe_exit(code))

    def kill(self) -> None:
        self._command.kill()

    def close(self) -> None:
        if self._command.returncode is None:
            self._command.kill()
        self._command.close()
