"""Fault injection: small numbers in every run, the long ones with ``--campaign``."""

from __future__ import annotations

from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--campaign", action="store_true", help="run the fault injection with its long numbers"
    )


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """``rounds(ci, campaign)``: how often to inject."""
    long = request.config.getoption("--campaign")
    return lambda ci, campaign: campaign if long else ci
