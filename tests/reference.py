"""The optimizers again, one number at a time, in Python floats: slow, and plain to the eye.

Every fast path is held to these loops. There are no tensors here, no broadcasting and no code of
the package: a parameter is a list of `Scalar`, and scalars that share a learning rate hold the same
`Rate`. The additive rule is eq. 3 of the poster; theta_t = theta_{t-1} - alpha_t u_t.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

INFINITY = math.inf


@dataclass(frozen=True, kw_only=True)
class Options:
    """What one parameter group asks for, in the words of the package."""

    algorithm: str  # a key of `DIRECTIONS`
    lr: float | list[float]  # a list has one number a member
    hypergrad_lr: float | list[float]
    rule: str = "additive"
    granularity: str = "group"
    reduction: str = "sum"
    lr_bounds: tuple[float, float] | None = (0.0, INFINITY)
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    maximize: bool = False
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    classical: bool = False
    product: str = "direction"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    momentum_decay: float = 4e-3  # of NAdam
    alpha: float = 0.99  # of RMSprop
    softness: float = 0.5  # this and the next two: of bases in own_bases.py
    fast: float = 0.5
    slow: float = 0.9
    members: int = 1  # of a stack: equal parts of each parameter, in order

    def of_member(self, i: int) -> "Options":
        own = {
            name: value[i]
            for name in ("lr", "hypergrad_lr")
            if isinstance(value := getattr(self, name), list)
        }
        return replace(self, **own) if own else self


@dataclass
class Rate:
    """One learning rate, shared by everything that holds this object."""

    value: float
    memory: list[float] = field(default_factory=list)  # of the rule
    terms: float = 0.0  # of its last move, without their signs: rounding may cost a share of them


@dataclass
class Scalar:
    """One number of a parameter and all that its optimizer remembers of it."""

    theta: float
    rate: Rate
    options: Options
    u: float = 0.0  # minus the derivative of its last step by the rate; u_0 = 0
    last_g: float = 0.0
    g: float | None = None  # this step's gradient; None where there is none
    steps: int = 0
    momentum: float = 0.0
    ratio: float = 0.0  # u_t without decoupled decay
    m: float = 0.0
    v: float = 0.0
    v_max: float = 0.0
    product: float = 1.0  # of NAdam's momenta
    parameter: "list[Scalar]" = field(default_factory=list, repr=False)  # all of the same tensor


@dataclass
class Reference:
    """Hypergradient descent over groups of parameters, each a flat list of scalars."""

    groups: list[list[list[Scalar]]] = field(default_factory=list)

    def add_group(self, parameters: Sequence[Sequence[float]], options: Options) -> None:
        """Append a group of flat parameters, whose rates all start at `options.lr`."""
        every = [options.of_member(i) for i in range(options.members)]
        of_members = [Rate(own.lr) for own in every]
        of_group = of_members[0]
        group = []
        for parameter in parameters:
            of_tensor = Rate(every[0].lr)
            scalars = []
            for k, theta in enumerate(parameter):
                member = k * options.members // len(parameter)
                if options.granularity in {"global", "group"}:
                    rate = of_group
                elif options.granularity == "tensor":
                    rate = of_tensor
                elif options.granularity == "member":
                    rate = of_members[member]
                else:
                    rate = Rate(every[0].lr)
                scalars.append(Scalar(theta, rate, every[member], parameter=scalars))
            group.append(scalars)
        self.groups.append(group)

    def step(self, gradients: Sequence[Sequence[Sequence[float] | None]]) -> None:
        """One step; `gradients` is nested like the groups, and None for a parameter without."""
        for group, of_group in zip(self.groups, gradients, strict=True):
            for parameter, of_parameter in zip(group, of_group, strict=True):
                for i, scalar in enumerate(parameter):
                    scalar.g = None if of_parameter is None else gradient(scalar, of_parameter[i])
        everything = [s for group in self.groups for p in group for s in p]
        active = [s for s in everything if s.g is not None]

        for rate, value in self._moved(everything, active, gradients):
            rate.value = value

        for scalar in active:
            assert scalar.g is not None
            if scalar.options.classical:
                classical_step(scalar, scalar.g)
            else:
                scalar.u = direction(scalar)
                scalar.theta -= scalar.rate.value * scalar.u
            scalar.last_g = scalar.g

    def _moved(
        self,
        everything: Sequence[Scalar],
        active: Sequence[Scalar],
        gradients: Sequence[Sequence[Sequence[float] | None]],
    ) -> list[tuple[Rate, float]]:
        """Each rate of those that step, and alpha_t of it."""
        steps = {  # an empty parameter with a gradient makes a step, too
            id(s.rate)
            for group, of_group in zip(self.groups, gradients, strict=True)
            if any(g is not None for g in of_group)
            for s in (s for p in group for s in p)
        }
        moved: dict[int, tuple[Rate, float]] = {}
        for scalar in everything:
            if id(scalar.rate) not in moved:
                if scalar.options.granularity == "global":
                    pool = [s for s in active if by_log(s) == by_log(scalar)]
                else:
                    pool = [s for s in active if s.rate is scalar.rate]
                if pool or (of_all(scalar) and id(scalar.rate) in steps):
                    moved[id(scalar.rate)] = scalar.rate, adapted(scalar, pool)
        return list(moved.values())


def gradient(s: Scalar, g: float) -> float:
    """g_t: what descent goes down, with L2 decay where decay is not decoupled."""
    if s.options.maximize:
        g = -g
    if not s.options.decoupled_weight_decay and s.options.weight_decay:
        g += s.options.weight_decay * s.theta
    return g


def adapted(s: Scalar, pool: Sequence[Scalar]) -> float:
    """alpha_t of the rate that `s` holds, from h_t = <g_t, u_{t-1}> over the pool."""
    o, alpha = s.options, s.rate.value
    h = terms = g_squared = u_squared = g = u = 0.0
    for each in pool:
        assert each.g is not None
        g = each.g
        u = last_u(each)
        product = g * u * (each.rate.value if by_log(s) else 1.0)
        h += product
        terms += abs(product)
        g_squared += g * g
        u_squared += u * u
    if o.reduction == "mean" and pool:  # of all, so that a ratio of them stays what it is
        h, terms, g_squared, u_squared = (
            total / len(pool) for total in (h, terms, g_squared, u_squared)
        )

    size, product_sum = abs(alpha) + o.hypergrad_lr * terms, h
    if FORMS[o.rule] == "cosine":
        norms = math.sqrt(g_squared) * math.sqrt(u_squared)
        cosine = 0.0 if norms == 0.0 else h / norms
        if o.granularity == "element":  # of two numbers, whose squares may be too small
            cosine = sign(g) * sign(u)
        h = cosine
    if FORMS[o.rule] == "normalised":
        h = over_squares(h, u_squared if o.granularity != "element" else squares_of_tensor(s))
    if o.rule in RATIOS:
        size = abs(alpha) + o.hypergrad_lr * (terms / abs(product_sum) if product_sum else 1.0)
    elif FORMS[o.rule] != "inner product":
        size = abs(alpha) * (1 + o.hypergrad_lr)
    new = RULES[o.rule](s.rate, h, o.hypergrad_lr)
    s.rate.terms = size if math.isfinite(new) and math.isfinite(size) else abs(alpha)
    if not (math.isfinite(new) and math.isfinite(h)) or h == 0.0:  # bounds are for moves
        return alpha
    if o.lr_bounds is not None:
        lower, upper = o.lr_bounds
        new = min(max(new, lower), upper)
    return new


def last_u(s: Scalar) -> float:
    """What g_t is multiplied with."""
    return s.u if s.options.product == "direction" else s.last_g


def squares_of_tensor(s: Scalar) -> float:
    """|u_{t-1}|^2 of all numbers of a parameter, for rates of elements."""
    return sum(last_u(each) ** 2 for each in s.parameter)


def over_squares(h: float, of: float) -> float:
    """The ratio of two numbers, and 0 where there is nothing to divide by."""
    return h / of if of else 0.0


def of_all(s: Scalar) -> bool:
    """Whether the scalars of a group share a rate, or those of each member."""
    return s.options.granularity in {"global", "group", "member"}


def by_log(s: Scalar) -> bool:
    """Whether h_t is the derivative by log alpha, alpha <g_t, u_{t-1}>."""
    return FORMS[s.options.rule] == "logarithmic"


def additive(rate: Rate, h: float, beta: float) -> float:
    return rate.value + beta * h


def multiplicative(rate: Rate, h: float, beta: float) -> float:
    return rate.value * (1 + beta * h)


def relative(rate: Rate, h: float, beta: float) -> float:
    """The rule of Untuned for one rate and one last step, without a trace (see docs/untuned.md)."""
    if not math.isfinite(h):
        return rate.value
    steps, over_max, mean, warming_up = rate.memory or (0.0, 1.0, 0.0, 1.0)
    steps += 1
    size = min(abs(h), 100 * mean) if mean > 0 else abs(h)
    mean += (size - mean) / max(min(steps - 1, 200), steps / 2, 1)
    if h < 0:
        warming_up = 0.0
    eta = min(beta, (3.0 if h > 0 else 0.5 * (1 + 200 / steps)) / steps)
    eta = max(eta, 3 * beta * warming_up)
    ratio = max(-1.0, min(1.0, h / mean)) if mean else 0.0
    moved = max(over_max * math.exp(eta * ratio), 0.01)
    rate.memory = [steps, min(moved, 1.0), mean, warming_up]
    return rate.value * moved / over_max


def adam_of_h(rate: Rate, h: float, beta: float) -> float:
    """Adam's ratio of h, counted from the first h that is not 0."""
    if not math.isfinite(h):
        return rate.value
    steps, m, v = rate.memory or (0.0, 0.0, 0.0)
    steps += 1 if steps or h else 0
    rate.memory = [steps, m + 0.1 * (h - m), v + 0.001 * (h * h - v)]
    if not steps:
        return rate.value
    _, m, v = rate.memory
    return rate.value + beta * m / (1 - 0.9**steps) / (math.sqrt(v / (1 - 0.999**steps)) + 1e-8)


def hdm(rate: Rate, h: float, beta: float) -> float:
    """AdaGrad on h, which is <g, u> / <u, u>."""
    if not math.isfinite(h):
        return rate.value
    (total,) = rate.memory or (0.0,)
    rate.memory = [total + h * h]
    return rate.value + (beta * h / math.sqrt(rate.memory[0]) if rate.memory[0] else 0.0)


RULES = {
    "additive": additive,
    "multiplicative": multiplicative,
    "relative": relative,
    "adam": adam_of_h,
    "hdm": hdm,
}
FORMS = {
    "additive": "inner product",
    "multiplicative": "cosine",
    "relative": "logarithmic",
    "adam": "inner product",
    "hdm": "normalised",
}
RATIOS = ("adam", "hdm")  # of h to its own size: an error of h counts as a share of it


def sign(x: float) -> float:
    """1, -1 or 0; nan where x is not finite."""
    return 0.0 if x == 0.0 else x / abs(x)


def direction(s: Scalar) -> float:
    """u_t, so that theta_t = theta_{t-1} - alpha_t u_t."""
    assert s.g is not None
    s.steps += 1
    s.ratio = DIRECTIONS[s.options.algorithm](s, s.g)
    if s.options.decoupled_weight_decay:  # theta_{t-1}: such decay is part of the direction
        return s.ratio + s.options.weight_decay * s.theta
    return s.ratio


def sgd(s: Scalar, g: float) -> float:
    o = s.options
    if o.momentum == 0.0:
        return g
    if s.steps == 1:
        s.momentum = g  # as torch: the first buffer is the gradient, without dampening
    else:
        s.momentum = o.momentum * s.momentum + (1 - o.dampening) * g
    return g + o.momentum * s.momentum if o.nesterov else s.momentum


def classical_step(s: Scalar, g: float) -> None:
    """v_t = mu v_{t-1} + alpha_t g_t, and theta at x_t, or with Nesterov at x_t - mu v_t."""
    mu, alpha = s.options.momentum, s.rate.value
    s.momentum = mu * s.momentum + alpha * g
    if s.options.nesterov:
        s.theta -= alpha * g + mu * s.momentum
        s.u = (1 + mu) * g
    else:
        s.theta -= s.momentum
        s.u = g


def adam(s: Scalar, g: float) -> float:
    o = s.options
    beta1, beta2 = o.betas
    s.m = beta1 * s.m + (1 - beta1) * g
    s.v = beta2 * s.v + (1 - beta2) * g * g
    s.v_max = max(s.v_max, s.v)
    m_hat = s.m / (1 - beta1**s.steps)
    # AMSGrad keeps the largest v before its bias is corrected, as torch does.
    v_hat = (s.v_max if o.amsgrad else s.v) / (1 - beta2**s.steps)
    return m_hat / (math.sqrt(v_hat) + o.eps)


def nadam(s: Scalar, g: float) -> float:
    o, t = s.options, s.steps
    beta1, beta2 = o.betas
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * o.momentum_decay))
    next_mu = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * o.momentum_decay))
    s.product *= mu
    s.m = beta1 * s.m + (1 - beta1) * g
    s.v = beta2 * s.v + (1 - beta2) * g * g
    m_hat = next_mu * s.m / (1 - s.product * next_mu) + (1 - mu) * g / (1 - s.product)
    return m_hat / (math.sqrt(s.v / (1 - beta2**t)) + o.eps)


def rmsprop(s: Scalar, g: float) -> float:
    s.v = s.options.alpha * s.v + (1 - s.options.alpha) * g * g
    return g / (math.sqrt(s.v) + s.options.eps)


def adagrad(s: Scalar, g: float) -> float:
    s.v += g * g
    return g / (math.sqrt(s.v) + s.options.eps)


def lion(s: Scalar, g: float) -> float:
    beta1, beta2 = s.options.betas
    c = beta1 * s.m + (1 - beta1) * g
    u = float((c > 0) - (c < 0))  # 0 of NaN, as torch.sign has it
    s.m = beta2 * s.m + (1 - beta2) * g
    return u


def softened(s: Scalar, g: float) -> float:
    return g / (abs(g) + s.options.softness)


def two_means(s: Scalar, g: float) -> float:
    s.m += (1 - s.options.fast) * (g - s.m)
    s.v += (1 - s.options.slow) * (g - s.v)
    return s.m / (1 + abs(s.v))


DIRECTIONS = {
    "sgd": sgd,
    "adam": adam,
    "nadam": nadam,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "lion": lion,
    "softened": softened,
    "twomeans": two_means,
}
