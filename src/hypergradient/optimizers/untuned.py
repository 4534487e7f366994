"""An optimizer without a learning rate to choose: hypergradients with a memory, on an average.

A hypergradient <g_t, u_{t-1}> sees one step. So it is biased where batches are reshuffled, as two
batches of one epoch have correlated noise, and it is short-sighted: the rate that is best for the
next loss is far below the one that is best for training (docs/untuned.md). Both biases vanish if
the parameters are an average x_t, which forgives a rate that is too high for any single step, and
h uses the displacement of that average over the last half of the training, m_t.

    z_t     = z_{t-1} - alpha_t u_t,                            u_t = g_t, or Adam's g_t / sqrt(v_t)
    x_t     = (1 - c_t) x_{t-1} + c_t z_t,                      c_t the weight of step t
    y_t     = (1 - b) z_t + b x_t,                              where gradients are taken
    m_t     = mu_t (m_{t-1} + (x_{t-1} - x_t) / alpha_t),       mu_t = 1 - 1 / max(10, t / 2)
    alpha_{t+1} = alpha_t exp(eta_t clip(h_t / E|h|, -1, 1)),   h_t = alpha_t <g_t, m_{t-1}>

h_t is minus the derivative of the loss with respect to the logarithm of a rate that all the last
steps had in common, if directions had been what they were. Steps count in m by their direction: by
their length, those of a rate that was too high would go on lowering it long after it had fallen.
The first three lines are the schedule-free method of Defazio et al. (2024, eq. 1 to 3), in
`engine/iterates.py`; the last one is the rule "relative", in `engine/rules.py`. Where u_t is g_t,
as with SGD, the length of a step and the unit of h_t are those of `engine/step_length.py`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from hypergradient.engine.adam_direction import AdamDirection
from hypergradient.engine.averaging import AveragingOptimizer
from hypergradient.engine.base import Base, KernelBase, StateUpdate, check_betas, check_share
from hypergradient.engine.iterates import Average, AverageNumbers
from hypergradient.engine.learning_rate import Rate, alpha_of, learned_rate, set_learned_rate
from hypergradient.engine.numbers import as_float
from hypergradient.engine.options import numbers
from hypergradient.engine.ranks import Ranks
from hypergradient.engine.rules import RULES
from hypergradient.engine.stand_ins import wide
from hypergradient.engine.step_length import NUMBERS, StepLength, measure
from hypergradient.engine.tensors import (
    HALF,
    dense_gradient,
    descent_gradient,
    sum_of_squares,
    with_gradient,
)
from hypergradient.engine.types import Group, Number, State
from hypergradient.optimizers.adam import step_count
from hypergradient.optimizers.bases import BASES

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

BaseWithoutRate = Literal["adam", "sgd", "rmsprop", "adagrad", "adafactor", "lion", "muon"]
BETAS = (0.9, 0.999)
LEAST_B = 0.01  # of b: in float32, eval() and train() lose 1e-7 / b of the way from x to z
LEAST = 1e-30  # of a first rate: in float32, 1 / alpha must be a number


class AdamWithoutMomentum(KernelBase):
    """Adam whose momentum the average replaces: u_t = g_t / (sqrt(v_t / (1 - beta2^t)) + eps).

    The engine divides it by max(1, rms(u_t)), with the root mean square over a parameter's numbers.
    So a batch whose gradient is larger than usual moves a parameter no further than a usual one.
    Momentum would spread its step over ten.
    """

    # With 1e-8 a loss scaled by 1e-8 would train worse; gradients have no such size by themselves.
    defaults = {"betas": (0.9, 0.999), "eps": 1e-12}
    name = "adam"
    takes_sparse = True  # the engine makes them dense
    max_rms = 1.0

    def init(self, p: Tensor) -> State:
        return {"step": step_count(p), "exp_avg_sq": torch.zeros_like(p)}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        beta2 = group["betas"][1]
        state["step"] += 1
        v = state["exp_avg_sq"]
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        v_hat = v / (1 - beta2 ** as_float(state["step"]))
        root: Tensor = v_hat.sqrt() + group["eps"]
        return g / root

    def batch_key(self, state: State) -> Number:
        return as_float(state["step"])

    def state_update(self, group: Group, key: Number) -> StateUpdate | None:
        beta2 = group["betas"][1]
        scale = (1 - beta2 ** (key + 1)) ** -0.5
        direction = AdamDirection(scale, group["eps"])
        return StateUpdate((1.0, 0.0, 0.0), (1 - beta2, beta2), direction)


class Untuned(AveragingOptimizer):
    r"""SGD or Adam without a learning rate to choose.

    Call `optimizer.train()` before training and `optimizer.eval()` before evaluating or saving a
    model: the best parameters are an average x_t, and gradients are taken at another point, y_t
    (as with other schedule-free optimizers); `with optimizer.averaged():` does both. A scheduler
    shapes the rate that is learned, but none is needed. The running statistics of batch norms are
    those of y_t: after `eval()`, call `torch.optim.swa_utils.update_bn(loader, model)`. To clamp or
    mask weights after each step, use `optimizer.project(...)`. Of parameters in bfloat16 and
    float16 it keeps and moves a copy in float32; complex ones move as pairs of reals.

    .. math::
        z_t &= z_{t-1} - \alpha_t (u_t + \lambda y_{t-1}), \quad
        x_t = (1 - c_t) x_{t-1} + c_t z_t \\
        y_t &= (1 - b) z_t + b x_t, \quad
        m_t = \mu_t (m_{t-1} + (x_{t-1} - x_t) / \alpha_t) \\
        h_t &= \alpha_t \langle g_t, m_{t-1} \rangle, \quad
        \alpha_{t+1} = \alpha_t \exp(\eta_t \,\mathrm{clip}(h_t / E|h|, -1, 1))

    u_t is g_t, or with Adam g_t / (sqrt(v_t) + eps) without momentum, of which b takes the part,
    over max(1, rms(u_t)) for each parameter: a gradient larger than usual moves it no further than
    a usual one. mu_t is 1 - 1 / max(10, t / 2): the trace remembers the last half of the training.
    eta_t is 3 / t for a move up, (1 + 200 / t) / 2t for one down, and 0.05 at most: the rate may
    change by as much in every doubling of the training, and later falls no faster than
    1 / sqrt(t).
    Until h is negative for the first time eta_t may be up to 0.15, by the share of the steepest
    slope along m_t so far that is left. From an `lr` below the first rate it climbs there by 0.4.
    With SGD, r_t is the root mean square of the last fifth of all gradients. A step, its decay
    included, is s_t = min(2, r_t / rms(g_t)) times as long, so that it is as long as a usual one
    until gradients are half as large; less, once they have grown to ten times the first one. h_t is
    divided by r_t.
    E|h| is a mean over about 200 steps, or half of all if that is more, in which an outlier counts
    for 100 times the mean at most. c_t weights steps by t^3 and by the largest rate so far,
    squared, which alpha never leaves by more than a factor of 100; so it comes back from anywhere.
    The first rate is the least of `lr` and 1e-2 rms(theta_0) / rms(u_1). Nothing here has a unit:
    to scale the loss changes no more than rounding.

    It keeps z_t, m_t and, with Adam, v_t: three (two) tensors a parameter. With base="adafactor"
    it keeps two, and trains as far: 8 bytes a parameter in float32, as Adam. Dense float32
    parameters on the CPU move by a C function, those on CUDA by kernels of Triton, and all others,
    those of Adafactor among them, by functions of torch.

    Args:
        params: parameters or parameter groups. All groups share one learned rate; the `lr` of a
            group is a factor on it, relative to the optimizer's.
        lr: an upper bound of the first rate, of use only to make a start slower. What a scheduler
            makes of it is a factor on the learned rate.
        betas: b, and the decay of v_t; (0.9, 0.999) by default. For a base with a momentum of its
            own, such as Lion, these are its own.
        eps: added to sqrt(v_t); 1e-12 with Adam, so that the scale of the loss does not matter,
            and the base's own by default with others.
        weight_decay: lambda, decoupled from u_t as in `torch.optim.AdamW`.
        base: "adam" (whose momentum the average replaces), "sgd", "rmsprop", "adagrad",
            "adafactor", "lion", "muon", or an instance of `Base`.
        interpolation: b, for a base with a momentum of its own; 0.9 by default.
        process_group: as in `Hypergradient`.
        options: the base's own options.

    The rate of the next step is `param_groups[i]["lr"]`, a 0-dim tensor. The first rate follows
    from the first gradient; before that it reads 1e-30.

    Raises:
        ValueError: at construction, for an option out of its range.
        RuntimeError: if `step` is called between `eval()` and `train()`.

    Source: the hypergradient is eq. 2 of Baydin et al. (ICLR 2018) with m_{t-1} for their
    -u_{t-1}; the average is Defazio et al., "The Road Less Scheduled", 2024, eq. 1 to 3.
    The constants were chosen on six small tasks, language models, and recurrent networks of our own
    (docs/untuned.md).

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x, y = torch.randn(64, 3), torch.randn(64, 1)
        >>> model = torch.nn.Linear(3, 1)
        >>> optimizer = Untuned(model.parameters())
        >>> for _ in range(300):
        ...     optimizer.zero_grad()
        ...     torch.nn.functional.mse_loss(model(x), y).backward()
        ...     optimizer.step()
        >>> optimizer.eval()
        >>> best = torch.linalg.lstsq(torch.cat([x, torch.ones(64, 1)], 1), y).solution
        >>> torch.allclose(model.weight[0], best[:3, 0], atol=1e-2)
        True
    """

    lr_is_factor = True
    iterate = Average()
    has_trace = True
    rule = "relative"
    _lengths: Mapping[int, StepLength] = MappingProxyType({})  # of the groups, in a step
    first_step = 1e-2  # the size of the first step, relative to the parameters
    more_options = ("lr", "betas", "eps", "interpolation", "training")
    known_bases = MappingProxyType(
        {
            **{name: BASES[name] for name in get_args(BaseWithoutRate) if name != "adam"},
            "adam": AdamWithoutMomentum(),
        }
    )

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float = 0.0,
        *,
        base: Base | BaseWithoutRate = "adam",
        interpolation: float | None = None,
        process_group: "ProcessGroup | None" = None,
        **options: Any,
    ) -> None:
        given = {"betas": betas, "eps": eps, "interpolation": interpolation}
        shared = {
            "lr": lr,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": True,
            "hypergrad_lr": 0.05,
            "rule": self.rule,
            "granularity": "global",
            "interpolation": None,
            "training": True,
        }
        named = {name: value for name, value in given.items() if value is not None}
        super().__init__(params, base, {**shared, **named, **options}, process_group)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, with options of its own, as in `torch.optim.Optimizer`.

        All groups share one learned rate. A group's `lr` is a factor on it, relative to the
        optimizer's `lr`. A number computed from a rate in use, such as
        `optimizer.param_groups[0]["lr"] / 10`, is taken for the rate that it is.
        """
        lr, first = param_group.get("lr", self.defaults["lr"]), next(iter(self.param_groups), None)
        learned = 1.0 if first is None else self._learned(first)
        if isinstance(lr, Rate):
            lr = float(lr.as_subclass(Tensor)) / float(learned)
        super().add_param_group({**param_group, "lr": lr})
        added = self.param_groups[-1]
        if added["interpolation"] is None:
            without = added["base"] in ("adam", "sgd")  # no momentum of its own
            betas = added.get("betas", BETAS)
            added["interpolation"] = betas[0] if without else BETAS[0]
        set_learned_rate(added, LEAST * added["reference_lr"])  # none is known before a step
        if first is None:
            return
        added["training"] = first["training"]
        if added["granularity"] == "global":
            set_learned_rate(added, learned * added["reference_lr"])
            for name in RULES[added["rule"]].memory:
                added[name].copy_(first[name])
            # its average begins here, by itself, with the weights of a first step
            added["bounded"] = first.get("bounded", False)

    def _learned(self, group: Group) -> Number:
        """Return the learned rate of all groups, relative to the `lr` of each."""
        learned: Number = learned_rate(group, as_float(alpha_of(group))) / group["reference_lr"]
        return learned

    def _check(self, group: Group) -> None:
        if 0 in numbers("lr", group["lr"], "1.0"):
            raise ValueError(
                f"lr={group['lr']!r} is not a finite number > 0: leave it out, 1.0 bounds nothing"
            )
        super()._check(group)
        if group["granularity"] not in ("global", "group"):
            raise ValueError(
                f"granularity={group['granularity']!r} does not go with Untuned: use 'global', "
                "one rate for all, or 'group'"
            )
        for name in ("differentiable", "maximize"):
            if group[name]:
                raise ValueError(f"{name}=True does not go with Untuned: leave it out")
        check_parameters(group["params"])
        b, name = group["interpolation"], "interpolation"
        if b is None and "betas" in group:
            check_betas(group["betas"], 2)
            b, name = group["betas"][0], "betas[0]"
        if b is not None:
            check_share(name, b)
            if b < LEAST_B:
                raise ValueError(
                    f"{name}={b!r} is less than {LEAST_B}: eval() divides by it, and would make "
                    "rounding large; the usual value is 0.9"
                )

    def _group_numbers(self, group: Group) -> dict[str, float]:
        numbers = super()._group_numbers(group)
        sized = self.base_of(group).sized_by_gradient
        return {**numbers, **dict.fromkeys(NUMBERS, 0.0)} if sized else numbers

    # The first rate, and the length of a step.

    def _measure(self, ranks: Ranks | None) -> None:
        super()._measure(ranks)
        lengths: dict[int, StepLength] = {}
        for groups in self._sharing():
            own = [group for group in groups if self.base_of(group).sized_by_gradient]
            length = measure(own, ranks) if own else None
            if length is not None:
                lengths |= {id(group): length for group in own}
        self._lengths = lengths

    def begin(self, group: Group) -> AverageNumbers | None:
        """Prepare a step of a group; called once for each step and group."""
        numbers, length = super().begin(group), self._lengths.get(id(group))
        if numbers is None or length is None:
            return numbers
        return numbers._replace(factor=length.factor, unit=length.unit)

    def _sharing(self) -> list[list[Group]]:
        """Return the groups, those together that share a rate."""
        shared = [g for g in self.param_groups if g["granularity"] == "global"]
        own = [[g] for g in self.param_groups if g["granularity"] != "global"]
        return [groups for groups in (shared, *own) if groups]

    def _begin(self, ranks: Ranks | None) -> bool:
        begins = super()._begin(ranks)
        if begins and not all(group.get("bounded") for group in self.param_groups):
            for groups in self._sharing():
                self._bound_first_rate(groups, ranks)
        return begins

    def _bound_first_rate(self, groups: list[Group], ranks: Ranks | None) -> None:
        """Start at a rate at which the first step is 1% of the parameters' size, or at `lr`.

        Args:
            groups: those that share the rate.
            ranks: those who hold parts of the parameters.
        """
        if groups[0].get("bounded") or (
            ranks is None and not any(with_gradient(group) for group in groups)
        ):
            return
        sums = torch.zeros_like(alpha_of(groups[0])).repeat(3)
        for group in groups:
            base = self.base_of(group)
            for p in with_gradient(group):
                if ranks is None or ranks.counts(group, p):
                    theta = wide(p)
                    g = descent_gradient(group, wide(dense_gradient(p)), theta)
                    u = base.direction(g, theta, base.init(theta), group)
                    squares = (sum_of_squares(theta), sum_of_squares(u))
                    sums += torch.stack([*squares, sums.new_full((), theta.numel())])
        if ranks is not None:
            sums = ranks.total({"first rate": sums})["first rate"]
        theta, u, count = sums.unbind()
        size = (theta / count.clamp(min=1)).sqrt().clamp(min=self.first_step)  # may start at zero
        bound = self.first_step * size / (u / count.clamp(min=1)).sqrt()
        bound = torch.where(bound.isfinite(), bound, self.first_step * size)  # no gradient yet
        rate = bound.clamp(max=self.defaults["lr"]).clamp(min=LEAST)
        for group in groups:
            set_learned_rate(group, rate * (group["reference_lr"] / self.defaults["lr"]))
            if "climb" in group:
                group["climb"].copy_(bound / rate)
            group["bounded"] = True


def check_parameters(params: Any) -> None:
    """Check that `Untuned` can move parameters.

    Raises:
        ValueError: it cannot; names the dtype and the remedy.
    """
    for given in [params] if isinstance(params, Tensor) else params:
        p = given[1] if isinstance(given, tuple) else given
        if not (p.is_floating_point() or p.is_complex()):
            raise ValueError(
                f"a parameter of {p.dtype} has no gradient: leave it out, as in "
                "[p for p in model.parameters() if p.requires_grad]"
            )
        if p.dtype.itemsize < HALF:
            raise ValueError(
                f"a parameter of {p.dtype}: its moves are too small for it, so keep parameters "
                "in torch.bfloat16 or more, and compute in less"
            )
