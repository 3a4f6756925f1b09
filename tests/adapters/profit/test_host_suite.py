"""proFit's own tests of runners and interfaces, unmodified from its sdist, against our classes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

SHADOW = """#!{python}
import relabel
relabel.apply()
from profit.{module} import main
main()
"""

SUITES = {
    "unit": (["tests/unit_tests/run", "-k", "not slurm"], 14),
    "integration": (["tests/integration_tests/mockup", "-k", "custom or 1D"], 6),
}


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_profits_own_tests_pass(
    suite: str, sdist: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    selection, expected = SUITES[suite]
    shadow = tmp_path / "shadow"
    made = tmp_path / "made"
    shadow.mkdir()
    made.mkdir()
    for program, module in (("profit", "main"), ("profit-worker", "run.worker")):
        script = shadow / program
        script.write_text(SHADOW.format(python=sys.executable, module=module))
        script.chmod(0o755)
    environment.pop("PROFIT_INCLUDES")
    environment["PATH"] = f"{shadow}{os.pathsep}{environment['PATH']}"
    environment["RINGWALK_MADE"] = str(made)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--no-cov", *selection),
            *("-p", "relabel", "-p", "no:cacheprovider"),
        ],
        cwd=sdist,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    summary = done.stdout.splitlines()[-1]
    assert re.search(rf"\b{expected} passed", summary), done.stdout
    assert "failed" not in summary
    ran = {name.partition("-")[0] for name in os.listdir(made)}
    assert {"RingwalkRunner", "RingwalkRunnerInterface"} <= ran
    assert suite == "integration" or "RingwalkWorkerInterface" in ran
