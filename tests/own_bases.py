"""Bases of a person's own, written as the documentation says, and no more than that."""

import torch

from hypergradient import Base


class Lion(Base):
    """One state; it has the name of one that is shipped."""

    defaults = {"betas": (0.9, 0.99)}  # noqa: RUF012 - as people write them

    def init(self, p):
        return {"exp_avg": torch.zeros_like(p)}

    def direction(self, g, p, state, group):
        beta1, beta2 = group["betas"]
        u = torch.sign(beta1 * state["exp_avg"] + (1 - beta1) * g)
        state["exp_avg"].mul_(beta2).add_(g, alpha=1 - beta2)
        return u


class Softened(Base):
    """No state: u_t = g_t / (|g_t| + softness)."""

    defaults = {"softness": 0.5, "weight_decay": 0.1}  # noqa: RUF012

    def direction(self, g, p, state, group):
        return g / (g.abs() + group["softness"])


class TwoMeans(Base):
    """Two states, the second of them replaced at each step: u_t = m_t / (1 + |slow_t|)."""

    defaults = {"fast": 0.5, "slow": 0.9, "decoupled_weight_decay": True}  # noqa: RUF012

    def init(self, p):
        return {"fast_mean": torch.zeros_like(p), "slow_mean": torch.zeros_like(p)}

    def direction(self, g, p, state, group):
        state["fast_mean"].lerp_(g, 1 - group["fast"])
        state["slow_mean"] = state["slow_mean"] + (1 - group["slow"]) * (g - state["slow_mean"])
        return state["fast_mean"] / (1 + state["slow_mean"].abs())


def plain(base: Base) -> Base:
    """A shipped base without its faster ways: what its `init` and `direction` make alone."""
    shipped = type(base)

    class Plain(Base):
        defaults = shipped.defaults
        max_rms, sized_by_gradient = shipped.max_rms, shipped.sized_by_gradient

        def init(self, p):
            extra = {"max_exp_avg_sq": torch.zeros_like(p)} if self.defaults.get("amsgrad") else {}
            return {**shipped.init(base, p), **extra}

        def direction(self, g, p, state, group):
            return shipped.direction(base, g, p, state, group)

    return Plain()
