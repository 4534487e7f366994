"""Lion: the sign of a momentum."""

import torch
from torch import Tensor

from hypergradient.engine.base import Base
from hypergradient.engine.types import Group, State


class Lion(Base):
    """u_t = sign(beta1 m_{t-1} + (1 - beta1) g_t), m_t = beta2 m_{t-1} + (1 - beta2) g_t.

    Weight decay is decoupled. Source: Chen et al., "Symbolic Discovery of Optimization
    Algorithms", 2023, algorithm 2.
    """

    defaults = {"betas": (0.9, 0.99), "decoupled_weight_decay": True}

    def init(self, p: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(p)}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        beta1, beta2 = group["betas"]
        u = torch.lerp(state["exp_avg"], g, 1 - beta1).sign()
        state["exp_avg"].lerp_(g, 1 - beta2)
        return u
