"""ScheduleFree+: Schedule-Free Adam whose rate is a Polyak step, written from its equations.

Its authors (facebookresearch/schedule_free) publish it as code for research that is in no package.
With the loss f_t and the gradient g_t at y_t, both means over the minibatch:

    alpha_t = lr max(0, f_t + beta <g_t, z_t - x_t>) / (sqrt(pi / 2) |g_t|_1)
    z_{t+1} = z_t - alpha_t Adam's direction of g_t
    w_t     = (largest rate so far)^2,  c_t = w_t / (w_1 + ... + w_t)
    x_{t+1} = (1 - c_t) x_t + c_t z_{t+1}
    y_{t+1} = beta x_{t+1} + (1 - beta) z_{t+1}

The Polyak step takes the least possible loss to be 0. f_t plus the product estimates the loss at
z_t, and |g_t|_1 stands for the product of the gradient with Adam's direction.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.optim import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

NORMAL = math.sqrt(math.pi / 2)
"""The ratio of a normal number's root mean square to its mean absolute value."""


class ScheduleFreePlus(Optimizer):
    """ScheduleFree+ by the defaults of its authors' code, without weight decay.

    Between ``train()`` and ``eval()`` the parameters are y, else x, the average.

    Args:
        params: Parameters, or groups of them. One rate serves all groups.
        lr: A factor on the Polyak step.
        betas: Adam's.
        averaging: The share of x in y.
        eps: Added to Adam's denominator.
    """

    adaptive: ClassVar[bool] = True
    base: ClassVar[str] = "Adam"

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.95),
        averaging: float = 0.9,
        eps: float = 1e-8,
    ) -> None:
        if not lr > 0:
            raise ValueError(f"lr is {lr}; the factor on the Polyak step must be above 0")
        own = {"rate": 0.0, "largest": eps, "weights": 0.0, "steps": 0, "training": True}
        options = {"lr": lr, "betas": betas, "averaging": averaging, "eps": eps}
        super().__init__(params, options | own)

    @torch.no_grad()
    def step(self, closure: Any = None, loss: Tensor | None = None) -> Any:
        """Make a step. It needs the minibatch's loss, or a closure that returns it."""
        if not self.param_groups[0]["training"]:
            raise RuntimeError("the parameters are the average after eval(): call train() first")
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if loss is None:
            raise TypeError("the Polyak step needs the loss: step(loss=loss)")
        polyak = self._polyak(float(loss))
        for group in self.param_groups:
            alpha = group["rate"] = max(group["lr"], group["eps"]) * polyak
            group["steps"] += 1
            group["largest"] = max(group["largest"], alpha)
            weight = group["largest"] ** 2
            group["weights"] += weight
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group, weight / group["weights"])
        return loss

    def _polyak(self, loss: float) -> float:
        """Return the Polyak step in the direction of Adam, over all parameters."""
        size, product = 0.0, 0.0
        for p, group in self._with_gradients():
            size += p.grad.abs().sum().item()
            if state := self.state[p]:
                ahead = (p.grad * (state["z"] - state["x"])).sum().item()
                product += group["averaging"] * ahead
        return max(0.0, loss + product) / (NORMAL * size) if size else 0.0

    def _with_gradients(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yield each parameter that has a gradient, with its group."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    yield p, group

    def _move(self, p: Tensor, group: dict[str, Any], share: float) -> None:
        """Move z by Adam, x towards z by its share, and the parameter to y."""
        state, (beta1, beta2), gradient = self.state[p], group["betas"], p.grad
        if gradient is None:
            return
        if not state:
            state["z"], state["x"] = p.clone(), p.clone()
            state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        state["mean"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        mean = state["mean"] / (1 - beta1 ** group["steps"])
        square = state["square"] / (1 - beta2 ** group["steps"])
        state["z"].addcdiv_(mean, square.sqrt_().add_(group["eps"]), value=-group["rate"])
        state["x"].mul_(1 - share).add_(state["z"], alpha=share)
        p.copy_(self._y(state, group))

    @staticmethod
    def _y(state: dict[str, Tensor], group: dict[str, Any]) -> Tensor:
        """Return where gradients are taken."""
        beta = group["averaging"]
        return state["x"].mul(beta).add_(state["z"], alpha=1 - beta)

    @torch.no_grad()
    def eval(self) -> None:
        """Put the average into the parameters."""
        self._put(training=False)

    @torch.no_grad()
    def train(self) -> None:
        """Put the weights that are trained into the parameters."""
        self._put(training=True)

    def _put(self, *, training: bool) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                for p in group["params"]:
                    if state := self.state[p]:
                        p.copy_(self._y(state, group) if training else state["x"])
                group["training"] = training
