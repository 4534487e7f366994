"""Bases that divide each gradient by the root of its past squares."""

import torch
from torch import Tensor

from hypergradient.engine.base import Base
from hypergradient.engine.types import Group, State


class RMSprop(Base):
    """u_t = g_t / (sqrt(v_t) + eps), v_t = alpha v_{t-1} + (1 - alpha) g_t^2 (Hinton 2012)."""

    defaults = {"alpha": 0.99, "eps": 1e-8}

    def init(self, p: Tensor) -> State:
        return {"square_avg": torch.zeros_like(p)}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        v = state["square_avg"]
        v.mul_(group["alpha"]).addcmul_(g, g, value=1 - group["alpha"])
        root: Tensor = v.sqrt() + group["eps"]
        return g / root


class Adagrad(Base):
    """u_t = g_t / (sqrt(v_t) + eps), v_t = v_{t-1} + g_t^2 (Duchi, Hazan and Singer 2011)."""

    defaults = {"eps": 1e-10}

    def init(self, p: Tensor) -> State:
        return {"sum": torch.zeros_like(p)}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        state["sum"].addcmul_(g, g)
        root: Tensor = state["sum"].sqrt() + group["eps"]
        return g / root
