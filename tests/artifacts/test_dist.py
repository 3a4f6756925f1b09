"""What `make wheel` made: an sdist, and the wheel that was built from it.

The wheel is installed where there is no compiler and nothing else. Run by `make test`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
USE = """
import sys
from ringwalk import TaskMapper, WalkerBlock, WorkerMapper
assert "site-packages" in sys.modules["ringwalk"].__file__

def drift(row):
    row.x += 1.0
    return row.index

for kind in (WorkerMapper, TaskMapper):
    with WalkerBlock(8, x="f8") as block, kind(drift, 2) as mapper:
        assert mapper.map(block) == list(range(8))
        assert block["x"].tolist() == [1.0] * 8
"""


@pytest.fixture(scope="session")
def wheel() -> Path:
    (found,) = (ROOT / "dist").glob("ringwalk-*.whl")  # make wheel
    return found


@pytest.fixture(scope="session")
def sdist() -> Path:
    (found,) = (ROOT / "dist").glob("ringwalk-*.tar.gz")
    return found


def test_the_wheel_is_for_other_machines_and_has_no_sources(wheel: Path) -> None:
    assert "-manylinux_" in wheel.name or "-musllinux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    files = [name for name in names if not name.endswith("/")]
    suffixes = {Path(name).suffix for name in files if ".dist-info/" not in name}
    assert suffixes <= {".py", ".pyi", ".so", ".typed"}
    assert len([name for name in names if name.endswith(".so")]) == len(
        list((ROOT / "ext/ringwalk/_core").glob("*.pyx"))
    )
    assert "ringwalk/py.typed" in names
    assert "jobmon/plugins/ringwalk/__init__.py" in names  # how Jobmon finds us
    assert "jobmon/__init__.py" not in names  # that folder is Jobmon's
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_is_what_is_kept_in_git(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("not a checkout: there is no git to ask what belongs to it")
    left_out = {".gitignore", ".ci/packages", ".ci/run", ".ci/suites.py"}
    assert set(done.stdout.split()) - left_out <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]


def pins(lock: Path) -> dict[str, str]:
    """Name and version of what a lock gives this Python."""
    lines = re.findall(r"^[\w.-]+==[^\\\n]+", lock.read_text(), re.MULTILINE)
    found = {}
    for locked in map(Requirement, lines):
        if locked.marker is None or locked.marker.evaluate():
            (only,) = locked.specifier
            found[locked.name] = only.version
    return found


def asked_by(wheel: Path, extra: str) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    return [
        asked
        for asked in map(Requirement, lines)
        if asked.marker is not None and asked.marker.evaluate({"extra": extra})
    ]


@pytest.mark.parametrize("host", ["wepy", "westpa", "profit", "jobmon"])
def test_an_extra_admits_what_is_tested(wheel: Path, host: str) -> None:
    tested = pins(ROOT / "tests/adapters" / host / "requirements.txt")
    asked = asked_by(wheel, host)
    assert asked
    for requirement in asked:
        assert requirement.specifier.contains(tested[requirement.name.lower()]), requirement


@pytest.mark.newest
@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="proFit's numpy is for Python 3.11")
def test_profits_extra_is_resolved_without_a_search(wheel: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    done = subprocess.run(
        [*command, f"{wheel}[profit]"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " profit-0.6 " in done.stdout
    assert "pip is looking at multiple versions" not in done.stdout + done.stderr


@pytest.mark.slow
def test_it_works_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    folder = environment / "bin"
    variables = {"PATH": str(folder), "HOME": str(tmp_path)}
    assert [shutil.which(name, path=str(folder)) for name in ("cc", "gcc", "clang")] == [None] * 3

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # What it asks for is found by pip, in versions that do not change from one day to the next.
    versions = tmp_path / "versions.txt"
    locked = pins(ROOT / "requirements" / "run.txt")
    versions.write_text("".join(f"{name}=={version}\n" for name, version in locked.items()))
    install = ("-m", "pip", "install", "--quiet", "--only-binary", ":all:")
    run(folder / "python", *install, "--constraint", versions, wheel)
    run(folder / "python", "-W", "error", "-c", USE)
    run(folder / "python", "-m", "pip", "check")
    assert "WorkerMapper ran 8 segments" in run(folder / "ringwalk", "doctor")
