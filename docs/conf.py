"""The documentation site: `sphinx-build -W docs build/site`, which `make docs` runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import ringwalk

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Files that lie elsewhere and are pages of the site, in the place of a page that names them.
PAGES = {
    "project/changelog": ROOT / "CHANGELOG.md",
    "project/contributing": ROOT / "CONTRIBUTING.md",
    "project/release-checklist": HERE / "release-checklist.md",
    "design/native-core": ROOT / "ext" / "DESIGN.md",
}
_LINK = re.compile(r"\]\((?![a-z][a-z0-9+.-]*:|#)([^)#\s]+)")

project = "Ringwalk"
author = "the Ringwalk developers"
version = release = ringwalk.__version__

exclude_patterns = ["release-checklist.md"]  # see PAGES
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

html_theme = "furo"
html_title = f"Ringwalk {release}"
html_copy_source = False

myst_heading_anchors = 3  # as GitHub makes them, so that links work in both places

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}


def put_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Read a page's text from where it really lies, and lead links to such texts to their pages."""
    origin = PAGES.get(docname, HERE / f"{docname}.md")
    page = HERE / docname
    homes = {path: HERE / f"{name}.md" for name, path in PAGES.items()}

    def lead(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(origin.parent / link[1]))
        return "](" + os.path.relpath(homes.get(target, target), page.parent)

    source[0] = _LINK.sub(lead, origin.read_text(encoding="utf-8"))


def setup(app: Sphinx) -> None:
    app.connect("source-read", put_pages)
