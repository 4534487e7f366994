"""Options, rates and states of an optimizer: made, checked, copied, saved and loaded."""

import math
from collections.abc import Iterable
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from hypergradient.options import Group, check, check_members
from hypergradient.pieces import as_real
from hypergradient.rate import Rate, alpha_of, is_written, plain_groups
from hypergradient.sharding import check_process_group, local_part

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

State = dict[str, Tensor]


def apart(params: ParamsT, lr: float | Tensor) -> tuple[ParamsT, float | Tensor]:
    """Give rates, one a member, to each group: torch's constructors take one number only."""
    several = isinstance(lr, Tensor) and lr.numel() != 1
    if not several or isinstance(params, Tensor) or not isinstance(params, Iterable):
        return params, lr
    groups: list[Any] = list(params)
    if groups and not isinstance(groups[0], dict):
        groups = [{"params": groups}]
    return [{"lr": lr, **group} for group in groups], 0.0


class RateKeeper(Optimizer):
    """An optimizer that keeps learning rates, one a group, a tensor, an element or a member."""

    process_group: "ProcessGroup | None" = None

    def _equip(self, process_group: "ProcessGroup | None", **options: Any) -> None:
        """Add the learning rate's own options to what torch's constructor has set up."""
        check_process_group(process_group)
        if process_group is not None:
            self.process_group = process_group  # no option of a group: it cannot be saved
        self.defaults.update(options)
        for group in self.param_groups:
            self._check({**options, **group})
            self._own(group)
        # A GradScaler then unscales the gradients itself, so that the rates see the true ones.
        self.__dict__.pop("_step_supports_amp_scaling", None)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, with options of its own, as in `torch.optim.Optimizer`."""
        if "hypergrad_lr" not in self.defaults:  # torch's constructor is at work: see _equip
            super().add_param_group(param_group)
            return
        self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        try:
            self._own(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    def _check(self, group: Group) -> None:
        """Check a group's options; torch's constructor does so for the default ones only."""
        check(group)
        torchs = next(c for c in type(self).__mro__ if c.__module__.startswith("torch.optim"))
        accepted = signature(torchs).parameters.keys() - {"params"}
        options = {name: group[name] for name in accepted}
        if group["granularity"] == "member":  # torch's takes one rate, and ours are checked
            options["lr"] = 0.0
        torchs([torch.zeros(())], **options)

    def _own(self, group: Group) -> None:
        """Complete a group's options, and make its rate a tensor of its own."""
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        if group["granularity"] == "member":
            check_members(group)
        Rate.install(self, group)

    def _take_writes(self) -> None:
        """Take numbers that were put in the place of groups' rates."""
        for group in self.param_groups:
            if is_written(group):
                lr, group["lr"] = group["lr"], group["scheduled_lr"]
                self._own(group)
                several = isinstance(lr, Tensor) and lr.dim() > 0
                group["lr"].fill_(lr.as_subclass(Tensor) if several else float(lr))

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: plain tensors, as `state_dict` gives them."""
        self._take_writes()
        state: dict[str, Any] = super().__getstate__()
        return {**state, "param_groups": plain_groups(state["param_groups"])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled, copied or loaded state, also one saved by torch's own class."""
        super().__setstate__(state)
        for group in self.param_groups:
            self._own(group)
            for p in group["params"]:
                if p in self.state:
                    self.state[p] = {**self._initial(group, p), **self.state[p]}

    def state_dict(self) -> dict[str, Any]:
        """The state and the options, as in `torch.optim.Optimizer`, rates as plain tensors."""
        self._take_writes()
        state = super().state_dict()
        return {**state, "param_groups": plain_groups(state["param_groups"])}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned, as in `torch.optim.Optimizer`."""
        super().load_state_dict(state_dict)
        indices = [i for group in state_dict["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for i, p in zip(indices, params, strict=True):
            saved, state = state_dict["state"].get(i, {}), self.state.get(p, {})
            if "lr" in saved:  # torch has cast it to the parameter's dtype, which rounds rates
                state["lr"] = saved["lr"].to(p.device, copy=True)
            if "step" in state:  # torch leaves it where it was saved
                state["step"] = state["step"].to(p.device)

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
        """The learning rate of a parameter, 0-dim, or of its elements or members, to broadcast."""
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

    def _initial(self, group: Group, p: Tensor) -> State:
        state = self._init_state(group, p)
        if group["product"] == "gradient":
            state["gradient"] = torch.zeros_like(p)
        if group["granularity"] == "tensor":
            state["lr"] = alpha_of(group).clone()
        elif group["granularity"] == "element":
            wide = torch.promote_types(p.dtype, torch.float32)
            state["lr"] = torch.zeros_like(p, dtype=wide, requires_grad=False)
            as_real(state["lr"]).add_(alpha_of(group))
        return state

    def _init_state(self, group: Group, p: Tensor) -> State:
        """The state before the first step, in which u_0 = 0."""
        raise NotImplementedError
