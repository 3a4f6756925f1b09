"""``ringwalk doctor``: what this machine and environment offer, and a remedy for each trouble."""

from __future__ import annotations

from ringwalk.cli.doctor.command import add_doctor
from ringwalk.cli.doctor.finding import Finding

__all__ = ["Finding", "add_doctor"]
