"""The documentation site is built, and a warning is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ROOT / "docs", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    texts = {page.relative_to(tmp_path): page.read_text() for page in tmp_path.rglob("*.html")}
    # Docstrings came in, texts from outside the folder did, and links to those lead to their pages.
    assert "A map is a transaction" in texts[Path("design/failure-model.html")]
    assert "Memory map of the arena" in texts[Path("design/native-core.html")]
    assert 'href="native-core.html"' in texts[Path("design/architecture.html")]
    assert 'id="ringwalk.WalkerBlock.resample"' in texts[Path("reference/memory.html")]
    assert 'id="ringwalk.errors.WorkerDied"' in texts[Path("reference/errors.html")]
    for drawing in ("memory-map", "block", "task-states"):
        assert (tmp_path / "_images" / f"{drawing}.svg").read_text().startswith("<svg")
