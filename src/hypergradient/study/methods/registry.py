"""The methods that studies compare: a name, the optimizer it stands for, and its fixed options."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from hypergradient.study.errors import OWN_CODE_RAISES, as_one_line, one_line
from hypergradient.study.extras import install
from hypergradient.study.import_by_name import (
    import_object,
    is_reference,
    recorded_name,
    source_hash,
)
from hypergradient.study.methods.modes import set_mode, step_function
from hypergradient.study.methods.schedules import HYPERGRADIENT, SCHEDULES
from hypergradient.study.methods.traits import Traits, traits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor
    from torch.optim import Optimizer

Option = bool | float | str | tuple[float, ...] | dict[str, float | tuple[float, ...]]
"""A value of an optimizer's option: several numbers are a tower, a mapping is what learns."""

# torch's fastest kernels, which this package's optimizers choose by themselves.
FUSED: Mapping[str, Any] = {"fused": True}

PROBE = (1, 1)
"""The shape of a parameter on which optimizers are tried: some, such as Muon, want matrices."""

NESTEROV: Mapping[str, Any] = {"momentum": 0.9, "nesterov": True}


@dataclass(frozen=True)
class Method:
    """An optimizer and the options that make it the method of that name.

    Attributes:
        optimizer: The class, as ``package.module:Class``, so that naming it does not load torch.
        fixed: Options that are part of the method.
        known_traits: What it is, where the optimizer itself cannot say. Other authors' classes do
            not, and their packages may not be installed where results are read.
    """

    optimizer: str
    fixed: Mapping[str, Option] = field(default_factory=dict)
    known_traits: Traits | None = None

    @property
    def from_other_package(self) -> bool:
        """Whether its class is another author's, from a package of the extra `bench`."""
        return self.optimizer.startswith("hypergradient.study.methods.baselines:")

    def optimizer_class(self) -> Callable[..., Optimizer]:
        """Import and return the optimizer's class."""
        optimizer: Callable[..., Optimizer] = import_object(self.optimizer)
        return optimizer

    def traits(self, hyper: Mapping[str, Option]) -> Traits:
        """Return what the optimizer is that these hyperparameters make."""
        import torch  # noqa: PLC0415

        if self.known_traits is not None:
            return self.known_traits
        return traits_of(self.build([torch.zeros(PROBE, requires_grad=True)], hyper))

    @property
    def has_own_schedule(self) -> bool:
        """Whether its rates are those of the schedule "hypergradient".

        ``Untuned`` adapts its rate too, but its runs were recorded with a constant schedule, which
        is a part of their ids.
        """
        from hypergradient import Untuned  # noqa: PLC0415
        from hypergradient.engine.optimizer import HypergradientOptimizer  # noqa: PLC0415

        optimizer = self.optimizer_class()
        if not isinstance(optimizer, type) or issubclass(optimizer, Untuned):
            return False
        return issubclass(optimizer, HypergradientOptimizer)

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules that it can be run with, the default one first."""
        if self.has_own_schedule:
            return (HYPERGRADIENT,)
        return tuple(name for name in SCHEDULES if name != HYPERGRADIENT)

    def accepts(self, option: str) -> bool:
        """Return whether the optimizer's constructor has an option of that name."""
        parameters = inspect.signature(self.optimizer_class()).parameters
        return option in parameters and option != "params"

    def build(
        self,
        parameters: Iterable[Tensor],
        hyper: Mapping[str, Option],
        weight_decay: float = 0.0,
    ) -> Optimizer:
        """Return the optimizer over ``parameters`` with the run's hyperparameters.

        TOML has no null, so the text "none" stands for None (``lr_bounds = "none"``).
        """
        options = {key: None if value == "none" else value for key, value in hyper.items()}
        if self.accepts("weight_decay") or weight_decay:
            options["weight_decay"] = weight_decay
        return self.optimizer_class()(parameters, **self.fixed, **options)

    def lacking(self) -> str | None:
        """Return which package must be installed for the optimizer, or None if all are there."""
        import torch  # noqa: PLC0415

        try:
            self.build([torch.zeros(PROBE, requires_grad=True)], {})
        except ModuleNotFoundError as error:
            return f"{error}: {install('bench')}"
        except OWN_CODE_RAISES:  # ``problems`` says what is wrong with options
            return None
        return None

    def problems(self, hyper: Mapping[str, Option]) -> list[str]:
        """Return why the optimizer refuses these hyperparameters; nothing if it accepts them."""
        found = []
        if unknown := [key for key in hyper if not self.accepts(key)]:
            found.append(f"no option {', '.join(map(self._with_hint, unknown))}")
        if repeated := [key for key in hyper if key in self.fixed or key == "weight_decay"]:
            keys = ", ".join(repeated)
            found.append(f"{keys} cannot be set in a grid: the method or study fixes it")
        known = {key: hyper[key] for key in hyper.keys() - {*unknown, *repeated}}
        refused = self._refusal(known) if known or not found else None
        return [*found, *([refused] if refused else [])]

    def _with_hint(self, unknown: str) -> str:
        """Return an option that is not known, with the close one that was perhaps meant."""
        known = inspect.signature(self.optimizer_class()).parameters.keys() - {"params"}
        close = get_close_matches(unknown, sorted(known), n=1)
        return f"{unknown} (did you mean {close[0]}?)" if close else unknown

    def _refusal(self, hyper: Mapping[str, Option]) -> str | None:
        """Return what the optimizer says to options that it has, or None if it takes a step."""
        import torch  # noqa: PLC0415  (2 s, and not needed to list the studies)

        parameter = torch.zeros(PROBE, requires_grad=True)
        parameter.grad = torch.zeros(PROBE)
        try:
            optimizer = self.build([parameter], hyper)
            set_mode(optimizer, training=True)
            step_function(optimizer)(torch.zeros(()))
        except ModuleNotFoundError:  # ``lacking`` says it: a study can be read without the package
            return None
        except (TypeError, ValueError, RuntimeError) as error:
            return one_line(str(error))
        except OWN_CODE_RAISES as error:
            return as_one_line(error)
        return None


def baseline(function: str, *, adaptive: bool = True) -> Method:
    """Return the method of one of ``baselines``, which is compared with Adam."""
    place = f"hypergradient.study.methods.baselines:{function}"
    return Method(place, known_traits=Traits(adaptive, "Adam"))


METHODS = {
    "SGD": Method("torch.optim:SGD", FUSED),
    "SGDN": Method("torch.optim:SGD", {**FUSED, **NESTEROV}),
    "Adam": Method("torch.optim:Adam", FUSED),
    "AdamW": Method("torch.optim:AdamW", FUSED),
    "SGD-HD": Method("hypergradient:SGDHD"),
    "SGDN-HD": Method("hypergradient:SGDHD", NESTEROV),
    "Adam-HD": Method("hypergradient:AdamHD"),
    "AdamW-HD": Method("hypergradient:AdamWHD"),
    "Adam-HD from 1e-8": Method("hypergradient.study.methods.published:AdamFromFirstSquare"),
    "Untuned": Method("hypergradient:Untuned"),
    "Untuned-SGD": Method("hypergradient:Untuned", {"base": "sgd"}),
    "Untuned-Adafactor": Method("hypergradient:Untuned", {"base": "adafactor"}),
    # Others that find a rate, from their authors' packages: see ``baselines``.
    "Prodigy": baseline("prodigy"),
    "ProdigyPlus": baseline("prodigy_plus"),
    "D-Adaptation": baseline("d_adaptation"),
    "DoG": baseline("dog"),  # its direction is the gradient, but Adam is what it is compared with
    "Schedule-Free": baseline("schedule_free", adaptive=False),
    "ScheduleFree+": Method("hypergradient.study.methods.schedule_free_plus:ScheduleFreePlus"),
    "MoMo": baseline("momo"),
    "Mechanic": baseline("mechanic"),
    "AdamG": baseline("adam_g"),
}
"""The methods by name. Adding one here is all it takes; its other options can be set in a grid."""


def find_method(name: str) -> Method:
    """Return a method by its name, that of a class of ``torch.optim``, or ``package.module:Class``.

    Raises:
        ValueError: There is no such class.
    """
    if name in METHODS:
        return METHODS[name]
    method = Method(name if is_reference(name) else f"torch.optim:{name}")
    if not callable(method.optimizer_class()):
        raise ValueError(f"{name} is not an optimizer's class")  # noqa: TRY004
    return method


def method_identity(name: str) -> dict[str, Any]:
    """Return what determines a method's results, ready for JSON. It is a part of a run's id.

    A person's own optimizer is known by its source. The optimizers of this package and of torch
    are known by their names: the versions of the packages are no part of it.
    """
    method = find_method(name)
    own = {"source": source_hash(name)} if is_reference(name) else {}
    return {"optimizer": recorded_name(method.optimizer), "fixed": dict(method.fixed)} | own
