"""The HD optimizers as they were published, to measure against: the same tensor operations.

Written from Baydin et al., Online Learning Rate Adaptation with Hypergradient Descent, ICLR 2018
(https://arxiv.org/abs/1703.04782), algorithms 4 to 6, and from what the authors' package
(https://github.com/gbaydin/hypergradient-descent) does with whole tensors: SGD-HD and SGDN-HD
gather all gradients into one flat vector; Adam-HD moves the one rate tensor by tensor, so that
each tensor steps with another rate.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class PublishedSGDHD(Optimizer):
    """SGD-HD (algorithm 4) and, with momentum, SGDN-HD (algorithm 5)."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        hypergrad_lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        options = {"lr": lr, "beta": hypergrad_lr, "mu": momentum, "nesterov": nesterov}
        super().__init__(params, options)

    @torch.no_grad()
    def step(self) -> None:
        (group,) = self.param_groups
        parameters = group["params"]
        g = torch.cat([p.grad.view(-1) for p in parameters])
        state = self.state[parameters[0]]
        if not state:
            state["u"] = torch.zeros_like(g)
        h = torch.dot(g, state["u"])
        group["lr"] = group["lr"] + group["beta"] * h  # a tensor from here on
        u = g
        if group["mu"]:
            if "v" not in state:
                state["v"] = torch.zeros_like(g)
            v = state["v"].mul_(group["mu"]).add_(g)
            u = g.add_(v, alpha=group["mu"]) if group["nesterov"] else v
        state["u"] = u
        for p, part in zip(parameters, u.split([p.numel() for p in parameters]), strict=True):
            p.add_(part.view_as(p), alpha=-float(group["lr"]))


class PublishedAdamHD(Optimizer):
    """Adam-HD (algorithm 6), whose rate moves within the loop over the tensors."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        hypergrad_lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": hypergrad_lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                self._step_tensor(group, p)

    def _step_tensor(self, group: dict[str, Any], p: Tensor) -> None:
        g, (beta1, beta2), eps = p.grad, group["betas"], group["eps"]
        state = self.state[p]
        if not state:
            state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        m, v, t = state["m"], state["v"], state["t"]
        if t:
            u = torch.div(m, v.sqrt().add_(eps))
            scale = math.sqrt(1 - beta2**t) / (1 - beta1**t)
            h = torch.dot(g.view(-1), u.view(-1)) * scale
            group["lr"] = group["lr"] + group["beta"] * h
        state["t"] = t = t + 1
        m.mul_(beta1).add_(g, alpha=1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        denominator = v.sqrt().add_(eps)
        scale = math.sqrt(1 - beta2**t) / (1 - beta1**t)
        p.addcdiv_(m, denominator, value=-float(group["lr"] * scale))
