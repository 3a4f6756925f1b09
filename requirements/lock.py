"""Resolve every environment that ``make`` builds to exact versions with hashes: ``make lock``.

A lock holds for all supported Pythons and both machines. It names no package index: pip takes the
files from the one that it is set up for, and their hashes tell that they are the same.
"""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUR_BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
INSTALLER = "requirements/installer.txt"
TEST = "requirements/test.txt"


def compile_lock(output: str, *arguments: str, given: list[str] | None = None) -> None:
    """Write ``output``; ``given`` are requirements beside those of the files in ``arguments``."""
    command = ["uv", "pip", "compile", "--quiet", "--upgrade", "--generate-hashes"]
    # An index can be set by a user's configuration, and would be written into the lock.
    command += ["--no-config", "--no-emit-index-url", "--universal", "--python-version", "3.11"]
    subprocess.run(
        [*command, "--output-file", output, *arguments, *(["-"] if given else [])],
        cwd=ROOT,
        env={**os.environ, "UV_CUSTOM_COMPILE_COMMAND": "make lock"},
        input="\n".join(given or []),
        text=True,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def main() -> None:
    # What installs the rest, and what builds the few sources among it. Every environment has its
    # own numpy, which is ours only where the host does not ask for another.
    compile_lock(INSTALLER, given=["pip", *(r for r in OUR_BUILD if not r.startswith("numpy"))])
    compile_lock("requirements/uv.txt", given=["uv"])
    # The environment of a developer, and the parts of it that one command or another needs.
    ours = ["pyproject.toml", "--constraints"]
    compile_lock(TEST, *ours, INSTALLER, "--extra", "test", "--group", "wheel", given=OUR_BUILD)
    compile_lock("requirements/run.txt", *ours, TEST, given=OUR_BUILD)
    compile_lock("requirements/docs.txt", *ours, TEST, "--extra", "docs", "--extra", "lint")
    compile_lock("requirements/wheel.txt", "--constraints", TEST, "--group", "wheel")
    # Environments of their own, where what else is installed there asks for other versions.
    compile_lock("requirements/bench.txt", *ours, INSTALLER, "--extra", "bench")
    for path in sorted((ROOT / "tests/adapters").glob("*/*.in")):
        asked = str(path.relative_to(ROOT))
        ringwalk = [*ours, INSTALLER] if path.stem == "requirements" else []
        compile_lock(str(Path(asked).with_suffix(".txt")), *ringwalk, asked)


if __name__ == "__main__":
    main()
