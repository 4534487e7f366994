"""Property tests that can be asked for more.

`HYPERGRADIENT_EXAMPLES=N pytest ...` lets them draw N examples, and other ones in each run; without
it they draw a few, always the same.
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

MANY = os.environ.get("HYPERGRADIENT_EXAMPLES")


def thorough(examples: int) -> Callable[[Any], Any]:
    """Let a property test draw this many examples, or as many as the environment asks for."""
    return settings(
        max_examples=int(MANY or examples),
        derandomize=not MANY,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
