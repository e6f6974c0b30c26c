"""Bundles trained once for all tests here."""

from __future__ import annotations

import pytest

from hackwatch.detect.bundle import Bundle
from hackwatch.detect.models.methods import METHODS
from tests.detect.support import trained


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    """One bundle per method."""
    return {method: trained(method) for method in METHODS}


@pytest.fixture(params=METHODS)
def bundle(request: pytest.FixtureRequest, bundles: dict[str, Bundle]) -> Bundle:
    """Each method's bundle in turn."""
    return bundles[str(request.param)]
