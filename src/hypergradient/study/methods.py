"""The methods that studies compare: a name, the optimizer it stands for, and its fixed options."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor
    from torch.optim import Optimizer

FUSED = {"fused": True}  # the kernels that this package's optimizers choose, and the fastest
NESTEROV = {"momentum": 0.9, "nesterov": True}


@dataclass(frozen=True)
class Method:
    """An optimizer and the options that make it the method of that name.

    Attributes:
        optimizer: The class, by import path, so that naming it does not load torch.
        fixed: Options that are part of the method.
    """

    optimizer: str
    fixed: Mapping[str, float | bool] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """Return what determines the method's results, ready for JSON."""
        return asdict(self)

    def optimizer_class(self) -> Callable[..., Optimizer]:
        """Import and return the optimizer's class."""
        module, _, name = self.optimizer.rpartition(".")
        optimizer: Callable[..., Optimizer] = getattr(import_module(module), name)
        return optimizer

    def build(
        self,
        parameters: Iterable[Tensor],
        hyper: Mapping[str, float | bool | str],
        weight_decay: float = 0.0,
    ) -> Optimizer:
        """Return the optimizer over ``parameters`` with the run's hyperparameters.

        TOML has no null, so the text "none" stands for None (``lr_bounds = "none"``).
        """
        options = {key: None if value == "none" else value for key, value in hyper.items()}
        return self.optimizer_class()(
            parameters, **self.fixed, **options, weight_decay=weight_decay
        )

    def problem(self, hyper: Mapping[str, float | bool | str]) -> str | None:
        """Return what the optimizer has against these hyperparameters, or None."""
        import torch  # noqa: PLC0415  (2 s, and not needed to list the studies)

        accepted = inspect.signature(self.optimizer_class()).parameters
        if unknown := [key for key in hyper if key not in accepted or key == "params"]:
            return f"no option {', '.join(unknown)}"
        if repeated := [key for key in hyper if key in self.fixed or key == "weight_decay"]:
            return f"{', '.join(repeated)} cannot be set in a grid: the method or study fixes it"
        try:
            self.build([torch.zeros(1, requires_grad=True)], hyper)
        except (TypeError, ValueError) as error:
            return str(error)
        return None


METHODS = {
    "SGD": Method("torch.optim.SGD", FUSED),
    "SGDN": Method("torch.optim.SGD", FUSED | NESTEROV),
    "Adam": Method("torch.optim.Adam", FUSED),
    "SGD-HD": Method("hypergradient.SGDHD"),
    "SGDN-HD": Method("hypergradient.SGDHD", NESTEROV),
    "Adam-HD": Method("hypergradient.AdamHD"),
}
"""The methods by name. Adding one here is all it takes; its other options can be set in a grid."""
