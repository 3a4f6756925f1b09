"""proFit 0.6 from PyPI, unmodified, and ringwalk's drop-in for it, in proFit's own environment.

Its pins (numpy 1) clash with those of the other benchmarks, so a study runs in an interpreter of
its own: ``make test-profit`` makes the environment. As a script it answers each line, a JSON list
[runner, interface, sleep, runs], by the seconds that a fresh study with so many no-op runs took.
What is timed is what ``profit run`` does between its imports and its output files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).parents[2] / ".venv-profit" / "bin" / "python"
PARALLEL = 2


@contextmanager
def studies() -> Iterator[subprocess.Popen[str]]:
    """The interpreter that runs studies, imports done."""
    python = os.environ.get("RINGWALK_PROFIT_PYTHON", str(PYTHON))
    if not Path(python).exists():
        raise FileNotFoundError(f"{python} is missing; 'make test-profit' makes it")
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [python, "-W", "ignore", __file__],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def seconds(
    process: subprocess.Popen[str], runner: str, interface: str, sleep: float, n: int
) -> float:
    """How long a study took, right results included."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([runner, interface, sleep, n]) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def serve() -> None:
    import numpy as np
    from profit.run import Runner, Worker

    from ringwalk.adapters.profit.execution import work

    @Worker.wrap("noop", "f", "u")
    def noop(u: float) -> float:
        return u

    class InProcess(Runner, label="in process"):  # type: ignore[misc, call-arg]
        """What proFit itself does for a run, logs included, and nothing else."""

        def spawn(self, params: Any = None, wait: bool = False) -> None:
            super().spawn(params, wait)
            self.runs[self.next_run_id] = None
            work(self, self.next_run_id)
            self.next_run_id += 1
            self.check_runs()

        def poll(self, run_id: int) -> None:
            """There is nobody to be asked."""

        def cancel(self, run_id: int) -> None:
            """Nothing runs when this can be called."""

        def close(self) -> None:
            self.interface.table.close()

    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        label, interface, sleep, n = json.loads(line)
        folder = f"study_{number}"
        os.mkdir(folder)
        os.chdir(folder)
        design = [{"u": float(k)} for k in range(n)]
        start = time.perf_counter()
        runner = Runner[label](
            interface={
                "class": interface,
                "size": n,
                "input_config": {"u": {"dtype": np.float64}},
                "output_config": {"f": {"dtype": np.float64, "size": (1, 1)}},
            },
            worker={"class": "noop"},
            parallel=PARALLEL,
            sleep=sleep,
        )
        runner.spawn_array(design, wait=True)
        took = time.perf_counter() - start
        assert runner.output_data["f"].tolist() == [float(k) for k in range(n)]
        # Not runner.clean(), which removes the log files: whenever a file is made, and a run makes
        # one, ext4 passes over the numbers of all that were removed in the last minutes.
        if interface == "ringwalk":
            runner.close()
        for handler in runner.logger.handlers[:]:  # or the next study writes to all of them
            runner.logger.removeHandler(handler)
            handler.close()
        os.chdir("..")
        print(took, flush=True)


if __name__ == "__main__":
    serve()
