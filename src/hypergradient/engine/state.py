"""Options, rates and states of an optimizer: made, checked, copied, saved and loaded."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from hypergradient.engine.base import Base, KernelBase
from hypergradient.engine.dtensors import check_process_group, local_part
from hypergradient.engine.foreign_states import adapted
from hypergradient.engine.hyperparameters import check_learn
from hypergradient.engine.iterates import Average, AverageNumbers, LastIterate
from hypergradient.engine.learning_rate import (
    Rate,
    accept_number,
    alpha_of,
    is_written,
    plain_groups,
)
from hypergradient.engine.options import (
    check,
    check_change,
    check_kinds,
    check_members,
    check_params,
    made_for,
)
from hypergradient.engine.param_step import KEPT
from hypergradient.engine.rules import RULES, rule_of
from hypergradient.engine.tensors import as_real
from hypergradient.engine.types import Group, State

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

SHARED: dict[str, Any] = {
    "weight_decay": 0.0,
    "decoupled_weight_decay": False,
    "maximize": False,
    "differentiable": False,
    "hypergrad_lr": 1e-3,
    "rule": "additive",
    "granularity": "group",
    "reduction": "sum",
    "product": "direction",
    "lr_bounds": (0.0, math.inf),
    "learn": {},
}
"""The options of all optimizers here beside `lr`, with the defaults of `Hypergradient`."""

NUMBERS = {name: SHARED[name] for name in ("hypergrad_lr", "weight_decay")} | {"lr": 1e-3}
"""Options of all optimizers here that are numbers, with usual values."""

ONE_RATE = ("global", "group", "member")
"""The granularities of which a group keeps the rate, or the rates of its members."""


class StatefulOptimizer(Optimizer):
    """An optimizer that keeps learning rates, one a group, a tensor, an element or a member.

    Attributes:
        adaptive: that its learning rate moves by itself, for whoever compares optimizers.
        lr_is_factor: that `lr` is a factor on a rate that the optimizer finds by itself, so that a
            number put into `group["lr"]` is a schedule's.
        known_bases: the bases that can be named.
        bases: those that this optimizer uses, by name.
        iterate: where a step takes the parameters.
        has_trace: whether the iterate is an `Average` whose moves a trace remembers. Without one
            trace_t = u_t, and no tensor is kept for it where the base can recompute u_t.
    """

    adaptive: ClassVar[bool] = True
    lr_is_factor: ClassVar[bool] = False
    more_options: ClassVar[tuple[str, ...]] = ("lr",)
    known_bases: Mapping[str, Base] = MappingProxyType({})
    iterate: LastIterate | Average = LastIterate()
    has_trace: bool = False
    process_group: "ProcessGroup | None" = None

    def __init__(
        self,
        params: ParamsT,
        base: Base | str,
        options: dict[str, Any],
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        check_process_group(process_group)
        check_params(params)
        if process_group is not None:
            self.process_group = process_group  # no option of a group: it cannot be saved
        self.bases: dict[str, Base] = {}
        name = self._base_name(base)
        own = self.bases[name].defaults
        for option, value in options.items():
            if option not in own and option not in SHARED and option not in self.more_options:
                raise TypeError(
                    f"{option}={value!r} is no option of {type(self).__name__} with the base "
                    f"{name!r}, whose own options are {', '.join(own) or 'none'}"
                )
        defaults = {**SHARED, **own, "base": name, **options}
        self._check({**defaults, "params": ()})
        defaults["learn"] = dict(defaults["learn"])  # a mapping that cannot be saved may be given
        Optimizer.__init__(self, params, defaults)

    def base_of(self, group: Group) -> Base:
        """Return what makes the directions of a group."""
        return self.bases[group["base"]]

    def _base_name(self, base: Any) -> str:
        """Return the name of a base, and know it by that from now on."""
        if isinstance(base, str) and base in self.bases:
            return base
        if isinstance(base, str) and base in self.known_bases:
            base = self.known_bases[base]
        if not isinstance(base, Base):
            known = ", ".join(sorted({*self.known_bases, *self.bases}))
            made = f", such as {base.__name__}()" if isinstance(base, type) else ""
            message = f"base={base!r} is not one of {known}, nor an instance of Base{made}"
            raise ValueError(message)  # noqa: TRY004 - as for all other options
        known_as = self.bases.setdefault(base.name, base)
        if type(known_as) is not type(base):
            raise ValueError(
                f"base={base!r} and {known_as!r} both have the name {base.name!r}: rename one"
            )
        return base.name

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, with options of its own, as in `torch.optim.Optimizer`.

        Raises:
            ValueError: an option of the group makes no sense; nothing has been added then.
        """
        check_params(param_group["params"])
        name = self._base_name(param_group.get("base", self.defaults["base"]))
        if name != self.defaults["base"]:
            param_group = {**self.bases[name].defaults, **param_group}
        param_group["base"] = name
        param_group.pop("made_for", None)
        params = param_group.get("params")
        if params is not None and not isinstance(params, Tensor | set):  # torch refuses sets
            param_group["params"] = list(params)  # a generator can be walked only once
        self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        try:
            self._own(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def _check(self, group: Group) -> None:
        """Check the options of a group, by what they have in common and by its base."""
        base = self.bases[group["base"]]
        check_kinds(group, {**base.defaults, **NUMBERS})
        base.check(group)
        check(group)
        check_learn(self, base, group)

    def _own(self, group: Group) -> None:
        """Complete a group's options, and make its rate a tensor of its own."""
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        group["learn"] = dict(group["learn"])
        if group["granularity"] == "member":
            check_members(group)
        group.setdefault("made_for", made_for(group))
        for name in getattr(self.base_of(group), "remembers", ()):
            group.setdefault(f"last_{name}", group[name])
        Rate.install(self, group)
        if group["granularity"] in ONE_RATE and not group["differentiable"]:
            group["effective_lr"] = alpha_of(group)  # loggers look for it
        for name, start in self._group_numbers(group).items():
            value = torch.as_tensor(group.get(name, start), dtype=alpha_of(group).dtype)
            value = value.to(alpha_of(group))
            group[name] = value.detach().expand_as(alpha_of(group)).clone()

    def begin(self, group: Group) -> AverageNumbers | None:
        """Prepare a step of a group; called once for each step and group that has a gradient."""
        return self.iterate.begin(group)

    def _group_numbers(self, group: Group) -> dict[str, float]:
        """Return the numbers that a group remembers, and where they start."""
        numbers: dict[str, float] = {}
        if group["granularity"] in ONE_RATE:
            numbers.update(rule_of(group).memory)
        return {**numbers, **self.iterate.group_numbers}

    def _before_step(self) -> None:
        """Check that a step may be made now; called first in each step.

        Raises:
            ValueError: an option has changed on which it depends what is kept.
        """
        for group in self.param_groups:
            if group["made_for"] != made_for(group):
                check_change(group)

    def _take_writes(self) -> None:
        """Accept numbers that were put in the place of groups' rates, as a write to the rate."""
        for group in self.param_groups:
            if is_written(group):
                accept_number(self, group, self._own)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: plain tensors, as `state_dict` gives them."""
        self._take_writes()
        state: dict[str, Any] = super().__getstate__()
        groups = plain_groups(state["param_groups"])
        return {**state, "param_groups": groups, "bases": self.bases}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled, copied or loaded state, also one saved by torch's own class."""
        super().__setstate__(state)
        for group in self.param_groups:
            group.pop("made_for", None)
            self._own(group)
            for p in group["params"]:
                if p in self.state:
                    self.state[p] = {**self.initial_state(group, p), **self.state[p]}

    def state_dict(self) -> dict[str, Any]:
        """Return the state and the options, as `torch.optim.Optimizer` does, rates as tensors."""
        self._take_writes()
        state = super().state_dict()
        return {**state, "param_groups": plain_groups(state["param_groups"])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned, as in `torch.optim.Optimizer`.

        The states of torch's own class are taken too, and by an average those of Adam and AdamW.

        Raises:
            ValueError: another optimizer saved it; nothing has been loaded then.
        """
        state_dict = adapted(self, state_dict)
        super().load_state_dict(state_dict)
        indices = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        groups = [group for group in self.param_groups for _ in group["params"]]
        for i, p, group in zip(indices, params, groups, strict=True):
            saved, state = state_dict["state"].get(i, {}), self.state.get(p, {})
            for name in self._wider_than_p(group, p) & saved.keys():
                own = group["granularity"] == "tensor" and name in rate_names(group)
                dtype = alpha_of(group).dtype if own else None  # a device may have no float64
                state[name] = saved[name].to(p.device, dtype, copy=True)
            if "step" in state:  # torch leaves it where it was saved
                state["step"] = state["step"].to(p.device)

    def _wider_than_p(self, group: Group, p: Tensor) -> set[str]:
        """Return the states of another dtype than p, to which torch casts what it loads.

        That would round the rates of tensors and elements, what rules remember, and what a base
        keeps in a dtype of its own choice.
        """
        names = rate_names(group)
        if p in self.state and (self.has_trace or not isinstance(self.base_of(group), KernelBase)):
            fresh = self.initial_state(group, p)
            names |= {name for name, own in fresh.items() if own.dtype != as_real(p).dtype}
        return names

    def lr_summary(self) -> dict[str, float]:
        """Summarise the learning rates, at any granularity, for logging.

        Returns:
            The "min", "median" and "max" of all rates: one a group, tensor, element or member.
            Where elements are spread over processes, of those held by this one (NaN if none).
        """
        rates: list[Tensor] = []
        for group in self.param_groups:
            if group["granularity"] in ("tensor", "element"):
                rates += [self.rate(group, p) for p in group["params"]]
            else:
                rates.append(alpha_of(group))
        rates = [as_real(local_part(lr)).flatten().cpu().double() for lr in rates]
        every = torch.cat(rates).sort().values
        if not every.numel():
            return dict.fromkeys(("min", "median", "max"), math.nan)
        middle = every[(len(every) - 1) // 2] + every[len(every) // 2]
        return {"min": every[0].item(), "median": middle.item() / 2, "max": every[-1].item()}

    def rate(self, group: Group, p: Tensor) -> Tensor:
        """Return the rate of a parameter, 0-dim, or of its elements or members, to broadcast."""
        if group["granularity"] == "member":
            rates = alpha_of(group).to(torch.promote_types(as_real(p).dtype, torch.float32))
            return rates.view(-1, *(1,) * (as_real(p).dim() - 1))
        shape = {"tensor": (), "element": p.shape}.get(group["granularity"])
        if shape is None or "lr" not in self.state.get(p, {}):
            rate = alpha_of(group)
            rate = rate.expand(shape) if shape else rate
        else:
            rate = self.state[p]["lr"]
        return rate

    def memory_names(self, group: Group) -> tuple[str, ...]:
        """Return the names of the states from which u_{t-1}, or its trace, is computed."""
        if self.has_trace:
            return ("direction_trace",)
        base = self.base_of(group)
        own = base.direction_state(group) if isinstance(base, KernelBase) else ("direction",)
        return ("gradient", *own) if group["product"] == "gradient" else own

    def initial_state(self, group: Group, p: Tensor) -> State:
        """Return the state of a parameter before its first step, at which u_0 = 0."""
        base = self.base_of(group)
        own = base.init_for(p, group) if isinstance(base, KernelBase) else base.init(as_real(p))
        state = {**own, **self.iterate.init(p)}
        for name in self.memory_names(group):
            if name in KEPT:
                state[name] = torch.zeros_like(p)
        if group["granularity"] == "tensor":
            state["lr"] = alpha_of(group).clone()
        elif group["granularity"] == "element":
            wide = torch.promote_types(p.dtype, torch.float32)
            state["lr"] = torch.zeros_like(p, dtype=wide, requires_grad=False)
            as_real(state["lr"]).add_(alpha_of(group))
        if "lr" in state:
            for name, start in rule_of(group).memory.items():
                state[name] = torch.zeros_like(state["lr"])
                as_real(state[name]).add_(start)
        return state


def rate_names(group: Group) -> set[str]:
    """Return the states that are a rate, or what a rule remembers of one."""
    rules = (rule_of(group), *RULES.values())
    return {"lr", *(name for rule in rules for name in rule.memory)}
