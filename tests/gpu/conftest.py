"""All tests of kernels have Triton's interpreter without half of its time."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest


@pytest.fixture(scope="module", autouse=True)
def language_replaced_once() -> Iterator[None]:
    if find_spec("triton") is None:
        yield
        return
    from interpreter import replaced_once  # noqa: PLC0415  (it imports Triton)

    with replaced_once():
        yield
