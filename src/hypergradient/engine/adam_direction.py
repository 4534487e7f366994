"""Adam's direction, in the form in which the C pass knows it too."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hypergradient.engine.tensors import HALF
from hypergradient.engine.types import Number


@dataclass(slots=True)  # not frozen: torch.compile of torch 2.6 loses what a frozen one holds
class AdamDirection:
    """u = m / (scale sqrt(v) + shift), plus the decoupled decay of weights.

    The decay is part of u_{t-1} = ratio + lambda theta_{t-2}, where theta_{t-1} = theta_{t-2} -
    alpha_{t-1} u_{t-1}. So u_{t-1} = (ratio + lambda theta_{t-1}) / (1 - lambda alpha_{t-1}).

    Attributes:
        scale, shift: as above, with the bias corrections of m and v in them.
        decay: lambda.
        decays: whether there is a decay at all.
    """

    scale: Number
    shift: Number
    decay: Number = 0.0
    decays: bool = False

    def __call__(self, theta: Tensor, alpha: Tensor, m: Tensor, v: Tensor) -> Tensor:
        if v.dtype.itemsize <= HALF:  # in float16 an eps of 1e-8 is 0
            m, v = m.float(), v.float()
        root = v.sqrt()
        if torch.is_grad_enabled():  # the graph holds the root
            ratio: Tensor = m / (root * self.scale + self.shift)
        else:
            ratio = torch.div(m, root.mul_(self.scale).add_(self.shift), out=root)
        if not self.decays:
            return ratio
        # 1 - lambda alpha is the share of theta_{t-2} that is left. At 0 theta_{t-2} cannot be
        # recovered, so the decay term is dropped.
        left = 1 - self.decay * alpha
        known = left.abs() > torch.finfo(theta.dtype).eps
        u = ratio + self.decay * torch.where(known, theta, 0.0)
        return u / torch.where(known, left, 1.0)


@dataclass(slots=True)
class AdamByBeta:
    """d u_t / d beta1 or d beta2, with m_{t-1} and v_{t-1} held fixed.

    With s = sqrt(v_hat) + eps,

        du/dbeta1 = dm_hat / s
        du/dbeta2 = -m_hat dv_hat / (2 s^2 sqrt(v_hat))
        dm_hat    = (m_{t-1} - g) / (1 - beta1^t) + m t beta1^(t-1) / (1 - beta1^t)^2

    and dv_hat alike, of v, g^2 and beta2.

    m_{t-1} - g_t = (m_t - g_t) / beta1, so g_t is all that is kept beside Adam's own state.

    Attributes:
        name: "beta1" or "beta2".
        beta1, beta2, eps, step: with which u_t was made.
    """

    name: str
    beta1: float
    beta2: float
    eps: float
    step: float

    def __call__(self, _theta: Tensor, _alpha: Tensor, m: Tensor, v: Tensor, g: Tensor) -> Tensor:
        t = self.step
        bias1, bias2 = 1 - self.beta1**t, 1 - self.beta2**t
        root = (v * (1 / bias2)).sqrt_()
        s = root + self.eps
        if self.name == "beta1":
            old, new = _shares(self.beta1, bias1, t)
            return (m * old).add_(g, alpha=new).div_(s)
        old, new = _shares(self.beta2, bias2, t)
        by_v = (v * old).addcmul_(g, g, value=new)
        # where v is 0 all gradients were, and by_v and m are, too
        root.clamp_min_(torch.finfo(root.dtype).tiny)
        return by_v.div_(root).div_(s).div_(s).mul_(m).mul_(-0.5 / bias1)


def _shares(beta: float, bias: float, t: float) -> tuple[float, float]:
    """Return (a, b) for d m_hat / d beta = a m_t + b g_t."""
    new = 1 / (beta * bias)
    return new + t * beta ** (t - 1) / bias**2, -new
