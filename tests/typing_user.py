"""A user's file with every option, for type checkers: `tests/test_typing.py` runs them on it."""

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR

from hypergradient import SGDHD, AdamHD, AdamWHD

model = nn.Linear(3, 1)
sgd = SGDHD(
    model.parameters(),
    lr=1e-3,
    momentum=0.9,
    dampening=0,
    weight_decay=1e-4,
    nesterov=True,
    maximize=False,
    foreach=None,
    differentiable=False,
    fused=None,
    classical=False,
    hypergrad_lr=1e-3,
    rule="additive",
    granularity="group",
    reduction="sum",
    product="direction",
    lr_bounds=(0.0, 1.0),
    learn={},
    process_group=None,
)
adam = AdamHD(
    model.named_parameters(),
    lr=torch.tensor(1e-3),
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0,
    amsgrad=False,
    foreach=None,
    maximize=False,
    capturable=False,
    differentiable=False,
    fused=None,
    hypergrad_lr=1e-8,
    rule="multiplicative",
    granularity="element",
    reduction="mean",
    product="gradient",
    lr_bounds=None,
    learn={},
    process_group=None,
)
adamw = AdamWHD(
    [
        {"params": [model.weight], "weight_decay": 0.1, "granularity": "tensor"},
        {"params": [model.bias], "lr": 1e-2, "hypergrad_lr": 0.0},
    ],
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=1e-2,
    amsgrad=True,
    maximize=False,
    foreach=False,
    capturable=False,
    differentiable=False,
    fused=False,
    hypergrad_lr=1e-8,
    rule="additive",
    granularity="global",
    reduction="sum",
    product="direction",
    lr_bounds=(0.0, float("inf")),
    learn={},
    process_group=None,
)


def closure() -> float:
    adamw.zero_grad()
    loss: Tensor = model(torch.ones(1, 3)).square().sum()
    torch.autograd.backward(loss)
    return float(loss.detach())


optimizers: list[torch.optim.Optimizer] = [sgd, adam, adamw]
scheduler = LinearLR(adamw)
loss: float = adamw.step(closure)
nothing: None = adamw.step()
summary: dict[str, float] = adamw.lr_summary()
state = adamw.state_dict()
adamw.load_state_dict(state)
adamw.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.1})
scheduler.step()
