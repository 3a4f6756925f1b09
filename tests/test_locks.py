"""The locks hold what pyproject.toml and the hosts ask for, on every Python that is supported.

Who changes a requirement and forgets `make lock` meets these.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LOCKS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("requirements/*.txt", "tests/adapters/*/*.txt")
    for path in ROOT.glob(pattern)
)
HOSTS = sorted(path.parent.name for path in ROOT.glob("tests/adapters/*/requirements.in"))


def entries(lock: str) -> list[str]:
    """One string for each requirement with its hashes."""
    text = re.sub(r"^ *#.*\n?", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


def there(python: str, machine: str) -> dict[str, str]:
    """What markers are evaluated with on that Python and machine."""
    full = f"{python}.9"
    known = {"python_version": python, "platform_machine": machine}
    known |= {"python_full_version": full, "implementation_version": full}
    return {**default_environment(), **known}


def locked(lock: str, python: str, machine: str) -> dict[str, str]:
    """Name and version of all that pip installs there."""
    found: dict[str, str] = {}
    for entry in entries(lock):
        asked = Requirement(entry.partition(" --hash")[0])
        if asked.marker is None or asked.marker.evaluate(there(python, machine)):
            (only,) = asked.specifier
            assert canonicalize_name(asked.name) not in found, "two versions for one environment"
            found[canonicalize_name(asked.name)] = only.version
    return found


def of_extra(extra: str) -> Iterator[Requirement]:
    for line in PROJECT["project"]["optional-dependencies"][extra]:
        asked = Requirement(line)
        if asked.name == "ringwalk":
            for other in sorted(asked.extras):
                yield from of_extra(other)
        else:
            yield asked


def of_host(host: str) -> list[Requirement]:
    lines = (ROOT / "tests/adapters" / host / "requirements.in").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


OURS = [*map(Requirement, PROJECT["project"]["dependencies"])]
BUILD = [*map(Requirement, PROJECT["build-system"]["requires"])]
WHEEL = [*map(Requirement, PROJECT["dependency-groups"]["wheel"])]
ASKED = {
    "requirements/run.txt": [*OURS, *BUILD],
    "requirements/test.txt": [*OURS, *BUILD, *WHEEL, *of_extra("test")],
    "requirements/docs.txt": [*OURS, *of_extra("docs"), *of_extra("lint")],
    "requirements/wheel.txt": WHEEL,
    "requirements/bench.txt": [*OURS, *of_extra("bench")],
    "requirements/installer.txt": [
        Requirement("pip"),
        *(asked for asked in BUILD if asked.name != "numpy"),
    ],
    "requirements/uv.txt": [Requirement("uv")],
    **{f"tests/adapters/{host}/requirements.txt": [*OURS, *of_host(host)] for host in HOSTS},
}


def test_no_lock_is_forgotten_here() -> None:
    # A host's source distribution, and what builds it, are named by hand.
    assert sorted(ASKED) == [lock for lock in LOCKS if "/sdist" not in lock]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_one_version_with_hashes_and_names_no_index(lock: str) -> None:
    for entry in entries(lock):
        assert re.fullmatch(r"[\w.-]+==[\w.!+]+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+", entry), (
            entry
        )
    assert "://" not in (ROOT / lock).read_text()


@pytest.mark.parametrize("lock", ASKED)
def test_what_is_asked_for_is_locked(lock: str) -> None:
    for python in PYTHONS:
        for machine in ("x86_64", "aarch64"):
            versions = locked(lock, python, machine)
            for asked in ASKED[lock]:
                if asked.marker is not None and not asked.marker.evaluate(there(python, machine)):
                    continue
                assert asked.specifier.contains(versions[canonicalize_name(asked.name)]), asked


@pytest.mark.parametrize("lock", ["run", "docs", "wheel"])
def test_the_parts_of_an_environment_agree(lock: str) -> None:
    for python in PYTHONS:
        whole = locked("requirements/test.txt", python, "x86_64")
        assert locked(f"requirements/{lock}.txt", python, "x86_64").items() <= whole.items()
