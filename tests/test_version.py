"""The version and the licence are told in more than one file, and are the same in each."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import ringwalk

ROOT = Path(__file__).parents[1]


def test_the_files_tell_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert ringwalk.__version__ == project["version"]
    assert re.findall(r"^version: (.*)$", citation, re.M) == [project["version"]]
    assert re.findall(r"^license: (.*)$", citation, re.M) == [project["license"]]
    assert project["version"].removesuffix(".dev0") in (ROOT / "CHANGELOG.md").read_text()
