"""Names for what the engine passes around."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Group = dict[str, Any]
"""A parameter group of torch: its parameters and its options."""

State = dict[str, Tensor]
"""The state of one parameter, by name."""

Number = float | Tensor
"""A float on the CPU, where arithmetic on floats costs a tenth of that on 0-dim tensors.

A 0-dim tensor on accelerators, where a float would have to wait, and in a graph, which it would
leave.
"""

Direction = Callable[..., Tensor]
"""A function of aligned chunks, (theta_{t-1}, alpha_{t-1}, *memory) -> u_{t-1}."""
