"""Other authors' optimizers that find their rate, from their own packages, at their defaults.

Each function takes ``lr``, the number from which the optimizer starts, whatever its authors call
it, so that a study can vary the start of all of them in the same way. Everything else is as they
ship it. Where a package's optimizer does not save its whole state, or does not switch between the
weights for training and evaluation, a subclass here does. The extra ``bench`` has the packages.

    method          package                       start      evaluated
    Prodigy         prodigyopt                    d0         the last iterate
    ProdigyPlus     prodigy-plus-schedule-free    d0         its average, by train() and eval()
    D-Adaptation    dadaptation                   d0         the last iterate (DAdaptAdam)
    DoG             dog-optimizer                 reps_rel   the average of its own averager
    Schedule-Free   schedulefree                  lr         its average (AdamWScheduleFree)
    MoMo            momo-opt                      lr         the last iterate (MomoAdam)
    Mechanic        mechanic-pytorch              s_init     the last iterate (Adam at the rate 1)
    AdamG           pytorch-optimizer             lr         the last iterate

ScheduleFree+, which is in no package, is in ``schedule_free_plus``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.optim import Optimizer

    Parameters = Iterable[Tensor]

KEPT = "kept beside"
"""The entry of ``state_dict`` with the attributes that the package's own leaves out."""


def prodigy(params: Parameters, lr: float = 1e-6) -> Optimizer:
    """Prodigy (Mishchenko, Defazio 2024)."""
    found: Optimizer = exact(import_module("prodigyopt").Prodigy)(params, d0=lr)
    return found


def prodigy_plus(params: Parameters, lr: float = 1e-6) -> Optimizer:
    """Prodigy with Schedule-Free averaging (LoganBooker)."""
    base: Any = exact(import_module("prodigyplus").ProdigyPlusScheduleFree)
    found: Optimizer = base(params, d0=lr, split_groups=False)  # which it does, and prints
    return found


def d_adaptation(params: Parameters, lr: float = 1e-6) -> Optimizer:
    """D-Adaptation for Adam (Defazio, Mishchenko 2023)."""
    found: Optimizer = exact(import_module("dadaptation").DAdaptAdam)(params, d0=lr)
    return found


def schedule_free(params: Parameters, lr: float = 0.0025) -> Optimizer:
    """Schedule-Free AdamW (Defazio et al. 2024)."""
    found: Optimizer = exact(import_module("schedulefree").AdamWScheduleFree)(params, lr=lr)
    return found


def momo(params: Parameters, lr: float = 1e-2) -> Optimizer:
    """MoMo for Adam (Schaipp et al. 2024): ``lr`` is the most that it steps."""
    base: Any = import_module("momo").MomoAdam
    found: Optimizer = exact(base, "_number_steps", "loss_avg", "lb")(params, lr=lr)
    return found


def adam_g(params: Parameters, lr: float = 1.0) -> Optimizer:
    """AdamG (Pan et al. 2024): ``lr`` is a factor on what it finds."""
    found: Optimizer = exact(import_module("pytorch_optimizer").AdamG)(params, lr=lr)
    return found


def dog(params: Parameters, lr: float = 1e-6) -> Optimizer:
    """Distance over gradients (Ivgi et al. 2023), evaluated at the average that they advise."""
    package: Any = import_module("dog")
    base: Any = exact(package.DoG)

    class AveragedDoG(base):  # type: ignore[misc]
        def __init__(self, params: Parameters, **options: Any) -> None:
            super().__init__(params, **options)
            self.trained = torch.nn.ParameterList(parameters_of(self))
            self.averager = package.PolynomialDecayAverager(self.trained)
            self.backup: list[Tensor] | None = None

        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            self.averager.step()
            return loss

        def eval(self) -> None:
            if self.backup is None:
                self.backup = [p.detach().clone() for p in self.trained]
                put(self.averager.averaged_model, self.trained)

        def train(self) -> None:
            if self.backup is not None:
                put(self.backup, self.trained)
                self.backup = None

        def state_dict(self) -> dict[str, Any]:
            own: dict[str, Any] = super().state_dict()
            return own | {"averager": self.averager.state_dict()}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            super().load_state_dict(state)
            self.state.pop("_first_step", None)  # it is not a parameter's
            self.averager.load_state_dict(state["averager"])

    found: Optimizer = AveragedDoG(params, reps_rel=lr)
    return found


def mechanic(params: Parameters, lr: float = 1e-8) -> Optimizer:
    """Mechanic (Cutkosky et al. 2023) over torch's Adam at the rate 1, as its authors write it."""
    base: Any = import_module("mechanic_pytorch").mechanize(torch.optim.Adam, s_init=lr)

    class Mechanic(base):  # type: ignore[misc]
        """Its state has parameters as keys within; in a ``state_dict`` they are numbers."""

        def state_dict(self) -> dict[str, Any]:
            found: dict[str, Any] = super().state_dict()
            number = {p: i for i, p in enumerate(parameters_of(self))}
            return renamed(found, number)

        def load_state_dict(self, state: dict[str, Any]) -> None:
            super().load_state_dict(renamed(state, dict(enumerate(parameters_of(self)))))

    found: Optimizer = Mechanic(params, lr=1.0)
    return found


def renamed(state: dict[str, Any], names: dict[Any, Any]) -> dict[str, Any]:
    """Return an optimizer's state with other names for the parameters within Mechanic's part."""
    if "_mechanic" not in state["state"]:
        return state
    part = {names.get(key, key): value for key, value in state["state"]["_mechanic"].items()}
    return state | {"state": state["state"] | {"_mechanic": part}}


def parameters_of(optimizer: Optimizer) -> list[Tensor]:
    """Return an optimizer's parameters in their order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


@torch.no_grad()
def put(values: Iterable[Tensor], parameters: Iterable[Tensor]) -> None:
    """Write values into parameters."""
    for p, value in zip(parameters, values, strict=True):
        p.copy_(value)


def exact(base: Any, *attributes: str) -> Any:
    """Return the optimizer's class with a state that goes on to the bit when it is loaded.

    Args:
        base: The class. torch gives loaded states the parameters' type; here they keep their own.
        attributes: Of the optimizer that its own ``state_dict`` leaves out.
    """

    class Exact(base):  # type: ignore[misc]
        def state_dict(self) -> dict[str, Any]:
            own: dict[str, Any] = super().state_dict()
            return own | {KEPT: {name: getattr(self, name) for name in attributes}}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            super().load_state_dict(state)
            for name, value in state[KEPT].items():
                setattr(self, name, value)
            for place, p in enumerate(parameters_of(self)):
                for key, value in state["state"].get(place, {}).items():
                    if isinstance(value, torch.Tensor):
                        self.state[p][key] = value.clone()

    Exact.__name__ = base.__name__
    return Exact
