"""The arithmetic of an ensemble: parameters and states with a leading axis for members.

A member's numbers are, bit for bit, the same whoever the other members are, as long as there are
two members and two examples. So a lone member is trained beside a copy of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hypergradient.study.import_by_name import import_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.optim import Optimizer

    from hypergradient.study.train.groups import EnsembleSpec

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh)
"""The activations that the model of an ensemble can have."""

Index = slice | list[int]


def forward(layers: Sequence[nn.Module], parameters: Sequence[Tensor], inputs: Tensor) -> Tensor:
    """Return the members' logits, (members, batch, classes), for inputs that they share.

    Args:
        layers: The layers of one member's model.
        parameters: Weights and biases of its linear layers, each with a leading axis for members.
        inputs: The batch, (batch, features).
    """
    remaining, x = iter(parameters), inputs
    for layer in layers:
        if not isinstance(layer, nn.Linear):
            x = layer(x)
            continue
        weight = next(remaining)
        if x.dim() == inputs.dim():  # the batch, which all members share: one product does
            x = (x @ weight.flatten(0, 1).t()).view(len(x), len(weight), -1)
            x = x.transpose(0, 1).contiguous()
        else:
            x = torch.bmm(x, weight.transpose(1, 2))
        # Added on its own, so that each member's gradient is summed in the same order.
        if layer.bias is not None:
            x = x + next(remaining).unsqueeze(1)
    return x


def layers_of(model: nn.Module, task: str) -> list[nn.Module]:
    """Return a model's layers, or raise a ``ValueError`` if an ensemble cannot have it."""
    layers = list(model) if isinstance(model, nn.Sequential) else [model]
    for layer in layers:
        if not isinstance(layer, (nn.Linear, *ELEMENTWISE)):
            raise ValueError(  # noqa: TRY004
                f"task {task}: stacked=True needs a model of nn.Linear and activations in an "
                f"nn.Sequential, and this one has {type(layer).__name__}: leave stacked at False"
            )
    return layers


def losses_of(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the cross-entropy of each member and example, (members, batch)."""
    repeated = classes.repeat(len(logits))
    return cross_entropy(logits.flatten(0, 1), repeated, reduction="none").view(len(logits), -1)


def build(specs: Sequence[EnsembleSpec], parameters: Sequence[Tensor]) -> Optimizer:
    """Return the optimizer of an ensemble, with a learning rate for each member."""
    adaptive = next((spec for spec in specs if spec.of_the_rate is not None), specs[0])
    optimizer: Optimizer = import_object(adaptive.optimizer)(
        parameters,
        granularity="member",
        lr=torch.tensor([spec.lr for spec in specs], dtype=torch.float64),
        hypergrad_lr=torch.tensor([spec.hypergrad_lr for spec in specs], dtype=torch.float64),
        **dict(adaptive.options),
        **dict(adaptive.of_the_rate or ()),
    )
    (group,) = optimizer.param_groups
    group["hypergrad_lr"] = group["hypergrad_lr"].to(group["lr"])  # the rates are on the device
    return optimizer


def members_of(tensor: Tensor, index: Index) -> Tensor:
    """Return some members of a tensor that has them on its first axis."""
    if isinstance(index, slice):
        return tensor[index]
    return tensor.index_select(0, torch.tensor(index).to(tensor.device))


def pick(state: Any, index: Index) -> Any:
    """Return the state of some members.

    A tensor with axes has members on its first one. Everything else is shared by all members.
    """
    if isinstance(state, Tensor):
        return members_of(state, index).clone() if state.dim() else state.clone()
    if isinstance(state, dict):
        return {key: pick(value, index) for key, value in state.items()}
    return [pick(value, index) for value in state] if isinstance(state, list) else state


def join(states: Sequence[Any]) -> Any:
    """Return the state of all members together, from the state of each."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(list(states)) if first.dim() else first.clone()
    if isinstance(first, dict):
        return {key: join([state[key] for state in states]) for key in first}
    if isinstance(first, list):
        return [join(parts) for parts in zip(*states, strict=True)]
    return first


def beside_another(members: list[Any]) -> list[Any]:
    """Return the members, a lone one twice: see the module's docstring."""
    return members * 2 if len(members) == 1 else members
