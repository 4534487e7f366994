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
