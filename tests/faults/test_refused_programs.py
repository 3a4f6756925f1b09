"""Programs in which no mapper of processes can be made: borrowed rights, sub-interpreters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OTHER_GROUP = 61001


def program(executable: Path | str, text: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [executable, "-W", "ignore", "-c", text],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a set-group-ID program")
def test_a_program_with_borrowed_rights_is_refused(tmp_path: Path) -> None:
    python = tmp_path / "python"
    shutil.copy(os.path.realpath(sys.executable), python)
    os.chown(python, -1, OTHER_GROUP)
    python.chmod(0o2755)  # set-group-ID
    done = program(
        python,
        "from ringwalk import TaskMapper\n"
        "import os; assert os.getgid() != os.getegid(), 'mounted with nosuid?'\n"
        "TaskMapper(abs)",
        PYTHONHOME=sys.base_prefix,
        PYTHONPATH=os.pathsep.join(filter(None, sys.path)),
    )
    assert "ConfigError: this program has rights that its caller has not" in done.stderr


IN_SUB_INTERPRETER = """
try:
    import _interpreters as interpreters
    made = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    made = interpreters.create(isolated=False)
interpreters.run_string(made, '''
from ringwalk import ConfigError, WorkerMapper
try:
    WorkerMapper(abs)
except ConfigError as error:
    print(error, flush=True)
''')
"""


def test_a_sub_interpreter_is_refused() -> None:
    done = program(sys.executable, IN_SUB_INTERPRETER)
    assert done.stdout.startswith("WorkerMapper was made in a sub-interpreter"), done.stderr
