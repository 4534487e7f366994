"""Comparisons that take no time to measure what a step costs."""

from collections.abc import Iterator

import pytest

from hypergradient.study.run import plan


@pytest.fixture(scope="module", autouse=True)
def short_rounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROUND_SECONDS", 0.001)
        yield
