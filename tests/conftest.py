"""What every test shares: one thread, and property tests that draw the same examples every time.

`HYPERGRADIENT_EXAMPLES=N` lets the `thorough` ones draw N examples, and others in each run.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # results differ between thread counts
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")

MANY = os.environ.get("HYPERGRADIENT_EXAMPLES")


def thorough(examples: int) -> Callable[[Any], Any]:
    """Let a property test draw this many examples, or as many as the environment asks for."""
    return settings(
        max_examples=int(MANY or examples),
        derandomize=not MANY,
        suppress_health_check=list(HealthCheck),
    )
