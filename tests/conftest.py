"""What every test shares: one thread, and property tests that draw the same examples every time.

Triton's kernels run in its interpreter where there is no GPU. It asks for that at its first import.
"""

import atexit
import gc
import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import Phase, settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
torch.set_num_threads(1)  # results differ between thread counts
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.register_profile(  # for mutations.py, to which any failure will do
    "quick to fail", settings.get_profile("reproducible"), phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPERGRADIENT_PROFILE", "reproducible"))


def pytest_collection_finish() -> None:
    """Let no collection of garbage look at modules and tests again: each would take 0.2 s.

    When Python ends they are collected, or Triton's library says that they leak.
    """
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


@pytest.fixture
def float64() -> Iterator[None]:
    """Have torch's optimizers count their steps in float64, or bias corrections are float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
