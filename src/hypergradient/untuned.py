"""An optimizer without a learning rate to choose: hypergradients with a memory, on an average.

A hypergradient <g_t, u_{t-1}> sees one step. So it is biased where batches are reshuffled, as two
batches of one epoch have correlated noise, and short-sighted: the rate that is best for the next
loss is far below the one that is best for training (docs/untuned.md). Both go away with the way of
about the last 50 steps, m_t, in the place of that of the last one, once the parameters
themselves are an average, which forgives a rate that is too high for any single step.

    z_t     = z_{t-1} - alpha_t u_t,                            u_t = g_t, or Adam's g_t / sqrt(v_t)
    x_t     = (1 - c_t) x_{t-1} + c_t z_t,                      c_t the weight of step t
    y_t     = (1 - b) z_t + b x_t,                              where gradients are taken
    m_t     = mu (m_{t-1} + (y_t - y_{t-1}) / alpha_t)
    alpha_{t+1} = alpha_t exp(eta_t clip(h_t / E|h|, -1, 1)),   h_t = -alpha_t <g_t, m_{t-1}>

h_t is minus the derivative of the loss with respect to the logarithm of a rate that all the last
steps had in common, if directions had been what they were. Steps count in m by their direction: by
their length, those of a rate that was too high would go on lowering it long after it had fallen.
The first three lines are the schedule-free method of Defazio et al. (2024, eq. 1 to 3).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from hypergradient import native
from hypergradient.gradients import dense_gradient, with_gradient
from hypergradient.options import Group
from hypergradient.pieces import HALF, PIECE, pieces
from hypergradient.sharding import is_dtensor

BASES = ("adam", "sgd")
LEAST = 1e-30  # of a first rate: in float32, 1 / alpha must be a number
# The state of the rate, in the first group.
TENSORS = ("lr", "relative", "spread", "weight", "rising")


class Part(NamedTuple):
    """A parameter, or a piece of one: its group, its own count of steps, and y, g, m, v and z."""

    group: Group
    t: int
    tensors: tuple[Tensor, ...]


class Plain:
    """What torch has for tensors, for numbers."""

    exp, isfinite = math.exp, math.isfinite

    @staticmethod
    def where(condition: bool, one: float, other: float) -> float:
        return one if condition else other


class Untuned(Optimizer):
    r"""SGD or Adam without a learning rate to choose.

    Call `optimizer.train()` before training and `optimizer.eval()` before evaluating or saving a
    model: the best parameters are an average x_t, and gradients are taken at another point, y_t
    (as with other schedule-free optimizers). Give it no learning-rate scheduler. The running
    statistics of batch norms are those of y_t: after `eval()`, pass some training batches through
    the model in its training mode, without gradients, before the model evaluates.

    .. math::
        z_t &= z_{t-1} - \alpha_t (u_t + \lambda y_{t-1}), \quad
        x_t = (1 - c_t) x_{t-1} + c_t z_t \\
        y_t &= (1 - b) z_t + b x_t, \quad
        m_t = \mu (m_{t-1} + (y_t - y_{t-1}) / \alpha_t) \\
        h_t &= -\alpha_t \langle g_t, m_{t-1} \rangle, \quad
        \alpha_{t+1} = \alpha_t \exp(\eta_t \,\mathrm{clip}(h_t / E|h|, -1, 1))

    u_t is g_t, or with Adam g_t / (sqrt(v_t) + eps) without momentum, of which b takes the part.
    eta_t is 0.2 until h is negative for the first time, then 0.05, or 10 / t if that is less: a
    rate may change by as much in every doubling of the training. E|h| is a mean over about 200
    steps, or half of all if that is more, in which an outlier counts for 100 times the mean at
    most. c_t weights steps by t^3 and by the largest rate so far, squared, which alpha never leaves
    by more than a factor of 100; so it comes back from anywhere. The first rate is the least of
    `lr` and 1e-2 rms(theta_0) / rms(u_1). Nothing here has a unit: to scale the loss changes no
    more than rounding.

    It keeps z_t, m_t and, with Adam, v_t: three (two) tensors a parameter. Dense float32 parameters
    on the CPU move in one pass of a C function, all others by functions of torch.

    Args:
        params: parameters or parameter groups; all groups share one rate. In float32 or float64;
            `torch.autocast` may compute in less.
        lr: an upper bound of the first rate, of use only to make a start slower.
        betas: b, and the decay of v_t.
        eps: added to sqrt(v_t).
        weight_decay: lambda, decoupled from u_t as in `torch.optim.AdamW`.
        base: "adam" or "sgd".

    The rate of the next step is `param_groups[0]["lr"]`, a 0-dim tensor.

    Raises:
        ValueError: at construction, for an option out of its range.
        RuntimeError: if `step` is called between `eval()` and `train()`.

    Source: the hypergradient is eq. 2 of Baydin et al. (ICLR 2018) with m_{t-1} for their
    -u_{t-1}; the average is Defazio et al., "The Road Less Scheduled", 2024, eq. 1 to 3.
    The constants were chosen on six small tasks (docs/untuned.md).

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

    _eta = 0.05  # the most that log alpha moves in a step
    _slowing = 10.0  # over t, from when on that is less
    _rising_eta = 0.2  # and until h is negative for the first time
    _memory = 0.98  # mu
    _spread = 200.0  # steps that the mean of |h| is over, once there are as many
    _spread_share = 0.5  # or as a share of all, if that is more
    _outlier = 100.0  # the most that |h| counts for in its mean, relative to that mean
    _floor = 0.01  # of alpha, relative to the largest so far
    _power: float = 3  # of t in the weights of the average
    _first = 1e-2  # the size of the first step, relative to the parameters

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1.0,
        betas: tuple[float, float] = (0.93, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        base: str = "adam",
    ) -> None:
        _check(lr, betas, eps, weight_decay, base)
        options = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "base": base}
        super().__init__(params, {"lr": lr, **options})

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, with options of its own but for the rate, which is shared."""
        group = {**self.defaults, **param_group}
        _check(*(group[name] for name in ("lr", "betas", "eps", "weight_decay", "base")))
        if group["lr"] != self.defaults["lr"]:
            raise ValueError(
                f"lr={group['lr']!r} in a parameter group: all share one rate, so give lr="
                f"{group['lr']!r} to the optimizer, or leave it out"
            )
        super().add_param_group(param_group)
        added = self.param_groups[-1]
        for p in added["params"]:
            if is_dtensor(p):
                self.param_groups.pop()
                raise ValueError(
                    "Untuned does not go with DTensor parameters (FSDP2, tensor parallelism): use "
                    "AdamHD or SGDHD there, or DistributedDataParallel, which needs nothing"
                )
            if not p.is_floating_point() or p.dtype.itemsize <= HALF:
                self.param_groups.pop()
                raise ValueError(
                    f"a parameter of {p.dtype}: its moves are too small for it, so keep parameters "
                    "in torch.float32 and compute in less by torch.autocast"
                )
        first = self.param_groups[0]
        if added is first:
            first.update(step=0, training=True)
            numbers = {**dict.fromkeys(TENSORS, 1.0), "spread": 0.0, "lr": first["lr"]}
            first.update({name: self._scalar(value) for name, value in numbers.items()})
        added["lr"] = first["lr"]

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the parameters, then the learning rate.

        Args:
            closure: evaluates the model again and returns the loss.

        Returns:
            The closure's loss; None without a closure.

        Raises:
            RuntimeError: the optimizer is in evaluation mode.
        """
        in_graph = torch.compiler.is_compiling()
        return _uncompiled(self, closure) if in_graph else self._step(closure)

    def _step(self, closure: Callable[[], float] | None) -> float | None:
        if not self.param_groups[0]["training"]:
            raise RuntimeError(
                "step() after eval(): the parameters are the average, where no gradient belongs; "
                "call optimizer.train() before training goes on"
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parts = [self._part(group, p) for group in self.param_groups for p in with_gradient(group)]
        if not parts:
            return loss
        rate = self.param_groups[0]
        rate["step"] += 1
        if rate["step"] == 1:
            self._bound_first(parts)
        h: float | Tensor
        h, left = self._descend_natively(parts)
        for batch in _batches(left):
            h = h + self._descend(batch)
        self._move_rate(h)
        return loss

    # alpha_{t+1} = alpha_t exp(eta_t clip(h_t / E|h|, -1, 1))

    def _move_rate(self, h: float | Tensor) -> None:
        """Move the rate, in numbers where h is one and in tensors where it is one."""
        rate, plain = self.param_groups[0], isinstance(h, float)
        m: Any = Plain if plain else torch
        state = [rate[name].item() if plain else rate[name] for name in TENSORS]
        alpha, relative, spread, weight, rising = state
        t = rate["step"]
        h = m.where(m.isfinite(h), h, 0.0)
        size, most = abs(h), self._outlier * spread
        size = m.where((most > 0) & (size > most), most, size)
        spread = spread + (size - spread) / max(min(t - 1, self._spread), self._spread_share * t, 1)
        c = h / m.where(spread > 0, spread, 1.0)
        c = m.where(c > 1, 1.0, m.where(c < -1, -1.0, c))
        rising = rising * (h >= 0)
        eta = min(self._eta, self._slowing / t)
        moved = relative * m.exp((eta + (self._rising_eta - eta) * rising) * c)
        moved = m.where(moved < self._floor, self._floor, moved)
        raised = m.where(moved > 1, moved, 1.0)  # the largest rate over the largest before
        # 1 / c_t = sum of all weights / the last one, for weights t^3 (largest rate)^2
        weight = 1 + weight * (t / (t + 1)) ** self._power / raised**2
        state = [alpha * (moved / relative), moved / raised, spread, weight, rising]
        for name, number in zip(TENSORS, state, strict=True):
            rate[name].fill_(number)

    def _bound_first(self, parts: list[Part]) -> None:
        rate, count = self.param_groups[0], max(sum(part.tensors[0].numel() for part in parts), 1)
        theta, u = self._scalar(0.0), self._scalar(0.0)
        for group, _, (y, g, *_) in parts:
            direction = g / (g.abs() + group["eps"]) if group["base"] == "adam" else g
            theta += _inner(y, y)
            u += _inner(direction, direction)
        size = (theta / count).sqrt().clamp(min=self._first)  # all may start at zero
        bound = self._first * size / (u / count).sqrt()
        bound = torch.where(bound.isfinite(), bound, self._first * size)  # no gradient yet
        rate["lr"].copy_(rate["lr"].minimum(bound).clamp(min=LEAST))

    # z, x, y and the directions of y

    def _descend_natively(self, parts: list[Part]) -> tuple[float, list[Part]]:
        """Descend where the C function can; return the sum of h, and the other parts."""
        rate = self.param_groups[0]
        if not (rate["lr"].is_cpu and native.usable()):
            return 0.0, parts
        alpha, c = rate["lr"].item(), 1 / rate["weight"].item()
        job = native.AverageJob()
        left = []
        for part in parts:
            group, (b, beta2) = part.group, part.group["betas"]
            adam, decay = group["base"] == "adam", group["weight_decay"]
            scale = (1 - beta2**part.t) ** -0.5 if adam else 0.0
            recipe = (alpha, c, b, self._memory, adam, beta2, scale, group["eps"], decay)
            if not job.take(part.tensors, recipe):
                left.append(part)
        return -alpha * job.descend(), left

    def _descend(self, batch: list[Part]) -> Tensor:
        """Descend by torch's own functions; return the sum of h."""
        group, rate = batch[0].group, self.param_groups[0]
        t = [part.t for part in batch]
        y, g, m, v, z = (list(each) for each in zip(*(part.tensors for part in batch), strict=True))
        b, beta2 = group["betas"]
        gm = torch.stack([_inner(gi, mi) for gi, mi in zip(g, m, strict=True)])
        h: Tensor = -rate["lr"] * gm.to(rate["lr"]).sum()
        alpha, c = (number.to(y[0].device) for number in (rate["lr"], 1 / rate["weight"]))
        if group["base"] == "adam":
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, g, g, 1 - beta2)
            root = torch._foreach_div(v, [1 - beta2**ti for ti in t])  # noqa: SLF001
            torch._foreach_sqrt_(root)
            torch._foreach_add_(root, group["eps"])
            step = torch._foreach_div(g, root)  # noqa: SLF001
            torch._foreach_mul_(step, -alpha)
        else:
            step = torch._foreach_mul(g, -alpha)  # noqa: SLF001
        if group["weight_decay"] != 0:
            torch._foreach_add_(step, torch._foreach_mul(y, -alpha * group["weight_decay"]))  # noqa: SLF001
        move = torch._foreach_sub(z, y)  # noqa: SLF001
        torch._foreach_mul_(move, c)
        torch._foreach_add_(z, step)
        torch._foreach_mul_(step, 1 - b * (1 - c))
        torch._foreach_add_(move, step)
        torch._foreach_add_(y, move)
        torch._foreach_mul_(move, 1 / alpha)
        torch._foreach_add_(m, move)
        torch._foreach_mul_(m, self._memory)
        return h

    def _part(self, group: Group, p: Tensor) -> Part:
        state = self.state[p]
        if not state:
            state.update(step=0, z=p.clone(), directions=torch.zeros_like(p))
            if group["base"] == "adam":
                state["exp_avg_sq"] = torch.zeros_like(p)
        state["step"] += 1
        own = state["directions"], state.get("exp_avg_sq", p), state["z"]
        return Part(group, state["step"], (p, dense_gradient(p), *own))

    def _scalar(self, value: float | Tensor) -> Tensor:
        device = self.param_groups[0]["params"][0].device
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        return torch.as_tensor(value, device=device, dtype=dtype).detach().clone()

    # Between where gradients are taken and the average.

    def eval(self) -> None:
        """Put the average x_t into the parameters: to evaluate, and to save the model."""
        self._switch(training=False)

    def train(self) -> None:
        """Put y_t, where gradients are taken, back into the parameters."""
        self._switch(training=True)

    @torch.no_grad()
    def _switch(self, *, training: bool) -> None:
        if self.param_groups[0]["training"] is training:
            return
        self.param_groups[0]["training"] = training
        for group in self.param_groups:
            b = group["betas"][0]
            for p in group["params"]:
                if "z" in self.state.get(p, {}):  # y = x + (1 - b)(z - x)
                    p.lerp_(self.state[p]["z"], 1 - b if training else 1 - 1 / b)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or loaded state: one rate for all groups, where the parameters are."""
        super().__setstate__(state)
        first = self.param_groups[0]
        for name in TENSORS:
            first[name] = self._scalar(first[name])
        for group in self.param_groups:
            group["lr"] = first["lr"]


# A graph would hold it wrongly (torch 2.13), so inside torch.compile a step runs as it is written.
_uncompiled = _disable_dynamo(Untuned._step)  # noqa: SLF001


def _batches(parts: list[Part]) -> Iterator[list[Part]]:
    """Cut into what one pass of `_foreach` functions takes: on the CPU, what stays in cache."""
    batch: list[Part] = []
    size = 0
    for group, t, tensors in parts:
        bounded = tensors[0].is_cpu
        large = bounded and tensors[0].numel() > PIECE
        for piece in pieces(*tensors) if large else [tensors]:
            size += piece[0].numel()
            if batch and (batch[0].group is not group or (bounded and size > PIECE)):
                yield batch
                batch, size = [], piece[0].numel()
            batch.append(Part(group, t, piece))
    if batch:
        yield batch


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.reshape(-1), b.reshape(-1))


def _check(
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, base: str
) -> None:
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"lr={lr!r} is not a finite number > 0: leave it out, 1.0 bounds nothing")
    for name, value in (("betas[0]", betas[0]), ("betas[1]", betas[1])):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r} is not between 0 and 1, such as (0.93, 0.999)")
    for name, value in (("eps", eps), ("weight_decay", weight_decay)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value!r} is not a finite number >= 0")
    if base not in BASES:
        raise ValueError(f"base={base!r} is not one of {', '.join(BASES)}")
