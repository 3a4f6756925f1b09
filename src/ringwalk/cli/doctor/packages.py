"""The packages that adapters serve: which are here, and whether their versions are supported.

Supported is what our own extras ask of them (``ringwalk[wepy]`` and so on), read from the metadata
that was installed with us; nothing is imported. What else an extra names only helps pip to find its
way.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from ringwalk.cli.doctor.finding import Finding

HOSTS = {
    "wepy": ("wepy",),
    "westpa": ("westpa",),
    "profit": ("profit",),
    "jobmon": ("jobmon-core", "jobmon-client"),
    "openmm": ("openmm",),
    "mpi": ("mpi4py",),
    "dask": ("distributed",),
}
"""Extra -> the packages that it is there for."""

_SUBJECTS = {"openmm": "OpenMM", "mpi": "MPI", "dask": "Dask"}


def check_packages() -> Iterator[Finding]:
    """Look at every package that an adapter, or a part of ours, works with."""
    try:
        requirements = [Requirement(text) for text in metadata.requires("ringwalk") or ()]
    except metadata.PackageNotFoundError:
        yield Finding(
            "optional packages",
            "absent",
            "not looked at: Ringwalk runs from a folder and is not installed, so nothing says "
            "which versions it needs (pip install --editable .)",
        )
        return
    for extra, names in HOSTS.items():
        for requirement in requirements:
            marker = requirement.marker
            wanted = marker is not None and marker.evaluate({"extra": extra})
            if wanted and requirement.name in names:
                yield _package(extra, requirement)


def _package(extra: str, requirement: Requirement) -> Finding:
    subject = _SUBJECTS.get(extra, f"{extra} adapter")
    wanted = f"{requirement.name}{requirement.specifier}"
    install = f"pip install 'ringwalk[{extra}]'"
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding(subject, "absent", f"{wanted} is not installed ({install})")
    if requirement.specifier.contains(version, prereleases=True):
        return Finding(subject, "ok", f"{requirement.name} {version}")
    return Finding(
        subject,
        "problem",
        f"{requirement.name} {version} is not supported, {wanted} is",
        f"{install}, in an environment of its own where other packages forbid it",
    )
