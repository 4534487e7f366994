"""Tests of figures see pictures as people get them."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures() -> None:
    """Leave the pictures as they are."""
