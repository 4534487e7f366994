"""States that another optimizer has saved: what can be taken over is, and the rest is refused.

`load_state_dict` asks here first, before anything is written, so that an optimizer is as it was
where a state is refused. A state of ours says in each group which base made it; torch's own are
recognised by the names of their options and tensors.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from hypergradient.engine.base import Base
from hypergradient.engine.iterates import LastIterate
from hypergradient.engine.rules import RULES
from hypergradient.engine.types import Group, State

COMMON = frozenset({"foreach", "fused", "capturable", "differentiable", "maximize", "weight_decay"})
MAY_LACK = frozenset(  # made when they are first needed
    {"momentum_buffer", "direction", "direction_trace", "gradient", "max_exp_avg_sq", "lr", "z"}
)
ADAM = ("step", "exp_avg_sq")  # what an average takes over from Adam


class Loader(Protocol):
    """What is asked of the optimizer that loads a state, which is a `StatefulOptimizer`."""

    param_groups: list[Group]
    iterate: LastIterate

    def base_of(self, group: Group) -> Base: ...
    def initial_state(self, group: Group, p: Tensor) -> State: ...
    def state_dict(self) -> dict[str, Any]: ...


def adapted(optimizer: Loader, saved: dict[str, Any]) -> dict[str, Any]:
    """Return a saved state in a form that the optimizer can load.

    Args:
        optimizer: who loads it.
        saved: what the `state_dict` of some optimizer returned; it is not written to.

    Raises:
        ValueError: another optimizer saved it, and nothing of it is of use here.
    """
    groups: list[Group] = saved["param_groups"]
    ours = all("base" in group for group in groups)
    if _is_adams(saved, ours=ours) and _takes_adams(optimizer):
        return _moments(optimizer, saved)
    if ours:
        _check_ours(optimizer, groups)
    else:
        _check_names(optimizer, saved)
    return saved


def _averages(group: Group) -> bool:
    return "interpolation" in group


def _is_adams(saved: dict[str, Any], *, ours: bool) -> bool:
    """Whether all states are those of Adam and its kin, ours or torch's."""
    states = saved["state"].values()
    if ours and not all(
        group["base"] in ("adam", "adamw", "amsgrad") and not _averages(group)
        for group in saved["param_groups"]
    ):
        return False
    return bool(states) and all({*ADAM, "exp_avg"} <= state.keys() for state in states)


def _takes_adams(optimizer: Loader) -> bool:
    """Whether an average goes on from Adam's second moments."""
    groups = optimizer.param_groups
    return all(_averages(group) and group["base"] == "adam" for group in groups)


def _moments(optimizer: Loader, saved: dict[str, Any]) -> dict[str, Any]:
    """Return the second moments and step counts alone; the optimizer's own options stay.

    The parameters are where Adam left them, and the average and its rate begin there.
    """
    states = {
        i: {name: torch.as_tensor(state[name], dtype=_dtype(state[name])) for name in ADAM}
        for i, state in saved["state"].items()
    }
    remembered = {name for rule in RULES.values() for name in rule.memory}
    remembered |= {*optimizer.iterate.group_numbers, "scheduled_lr", "learned_scale", "bounded"}
    own = optimizer.state_dict()["param_groups"]
    groups = []
    for group, theirs in zip(own, saved["param_groups"], strict=False):
        options = {name: value for name, value in group.items() if name not in remembered}
        fresh = {"lr": group["reference_lr"], "params": theirs["params"], "training": True}
        groups.append({**options, **fresh})
    groups += saved["param_groups"][len(groups) :]  # torch says that their number is another
    return {**saved, "state": states, "param_groups": groups}


def _dtype(value: Any) -> torch.dtype:
    dtype = value.dtype if isinstance(value, Tensor) else torch.float32
    return torch.promote_types(dtype, torch.float32)  # an average keeps no states of 16 bits


def _check_ours(optimizer: Loader, groups: list[Group]) -> None:
    for group, theirs in zip(optimizer.param_groups, groups, strict=False):
        if (theirs["base"], _averages(theirs)) != (group["base"], _averages(group)):
            raise _refusal(optimizer, _description(theirs))


def _check_names(optimizer: Loader, saved: dict[str, Any]) -> None:
    """Check a state that does not say what made it."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    owners = {p: group for group in optimizer.param_groups for p in group["params"]}
    for group, theirs in zip(optimizer.param_groups, saved["param_groups"], strict=False):
        if "directions" in {name for state in saved["state"].values() for name in state}:
            raise _refusal(optimizer, "an Untuned of an earlier version of hypergradient")
        own = optimizer.base_of(group).defaults.keys() - COMMON
        if _averages(group) or (own and not own & theirs.keys()):
            raise _refusal(optimizer, _kind(theirs))
    for i, state in saved["state"].items():
        if not state or i >= len(params):
            continue
        expected = optimizer.initial_state(owners[params[i]], params[i]).keys()
        if expected - MAY_LACK - state.keys() or state.keys() - expected - MAY_LACK:
            raise _refusal(optimizer, f"an optimizer with the states {', '.join(sorted(state))}")


def _description(group: Group) -> str:
    base = repr(group["base"])
    return f"an Untuned with the base {base}" if _averages(group) else f"one with the base {base}"


def _kind(group: Group) -> str:
    known = {"betas": "Adam or its kin", "momentum": "SGD"}
    names = [kind for name, kind in known.items() if name in group]
    return names[0] if names else f"one with the options {', '.join(sorted(group))}"


def _refusal(optimizer: Loader, source: str) -> ValueError:
    bases = ", ".join(sorted({repr(group["base"]) for group in optimizer.param_groups}))
    name = type(optimizer).__name__
    takes = " Of other optimizers it takes Adam's and AdamW's." if _takes_adams(optimizer) else ""
    return ValueError(
        f"this state was saved by {source}, which {name} with the base {bases} cannot go on from."
        f"{takes} Load it into an optimizer of the class that saved it, or load the weights of "
        "the model alone and start with a new optimizer; nothing has been loaded"
    )
