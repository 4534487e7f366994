"""An optimizer without a learning rate to choose: hypergradients with a memory, on an average.

A hypergradient <g_t, u_{t-1}> sees one step. So it is biased where batches are reshuffled, as two
batches of one epoch have correlated noise, and short-sighted: the rate that is best for the next
loss is far below the one that is best for training (docs/untuned.md). Both go away with the move
of about the last 50 steps, m_t, in the place of that of the last one, once the parameters
themselves are an average, which forgives a rate that is too high for any single step.

    alpha_t = alpha_{t-1} exp(eta clip(h_t / E|h|, -1, 1)),     h_t = -<g_t, m_{t-1}>
    z_t     = z_{t-1} - alpha_t u_t,                            u_t = g_t, or Adam's g_t / sqrt(v_t)
    x_t     = (1 - c_t) x_{t-1} + c_t z_t,                      c_t the weight of step t
    y_t     = (1 - b) z_t + b x_t,                              where gradients are taken
    m_t     = mu (m_{t-1} + y_t - y_{t-1})

The last four lines but m are the schedule-free method of Defazio et al. (2024, eq. 1 to 3).
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from hypergradient.gradients import dense_gradient, with_gradient
from hypergradient.options import Group
from hypergradient.pieces import HALF, PIECE, pieces
from hypergradient.sharding import is_dtensor

BASES = ("adam", "sgd")
# The state of the rate, in the first group.
TENSORS = ("lr", "relative", "spread", "weight", "rising")


class Part(NamedTuple):
    """A parameter, or a piece of one: its group, its own count of steps, and y, g, z, m and v."""

    group: Group
    t: int
    tensors: tuple[Tensor, ...]


class Untuned(Optimizer):
    r"""SGD or Adam without a learning rate to choose.

    Call `optimizer.train()` before training and `optimizer.eval()` before evaluating or saving a
    model: the best parameters are an average x_t, and gradients are taken at another point, y_t
    (as with other schedule-free optimizers). Give it no learning-rate scheduler. The running
    statistics of batch norms are those of y_t: after `eval()`, pass some training batches through
    the model in its training mode, without gradients, before the model evaluates.

    .. math::
        h_t &= -\langle g_t, m_{t-1} \rangle, \quad
        \alpha_t = \alpha_{t-1} \exp(\eta \,\mathrm{clip}(h_t / E|h|, -1, 1)) \\
        z_t &= z_{t-1} - \alpha_t (u_t + \lambda y_{t-1}), \quad
        x_t = (1 - c_t) x_{t-1} + c_t z_t \\
        y_t &= (1 - b) z_t + b x_t, \quad m_t = \mu (m_{t-1} + y_t - y_{t-1})

    u_t is g_t, or with Adam g_t / (sqrt(v_t) + eps) without momentum, of which b takes the part.
    eta is 0.05, and 0.2 until h is negative for the first time. E|h| is a mean over about 200
    steps, in which an outlier counts for 100 times the mean at most. c_t weights steps by t^3 and
    by the largest rate so far, squared, which alpha never leaves by more than a factor of 100; so
    it comes back from anywhere. The first rate is the least of `lr` and 1e-2 rms(theta_0) /
    rms(u_1). Nothing here has a unit: to scale the loss changes no more than rounding.

    It keeps z_t, m_t and, with Adam, v_t: three (two) tensors a parameter.

    Args:
        params: parameters or parameter groups; all groups share one rate. In float32 or float64;
            `torch.autocast` may compute in less.
        lr: an upper bound of the first rate, of use only to make a start slower.
        betas: b, and the decay of v_t.
        eps: added to sqrt(v_t).
        weight_decay: lambda, decoupled from u_t as in `torch.optim.AdamW`.
        base: "adam" or "sgd".

    The rate is `param_groups[0]["lr"]`, a 0-dim tensor.

    Raises:
        ValueError: at construction, for an option out of its range.
        RuntimeError: if `step` is called between `eval()` and `train()`.

    Source: the hypergradient is eq. 2 of Baydin et al. (ICLR 2018) with m_{t-1} for their
    -alpha u_{t-1}; the average is Defazio et al., "The Road Less Scheduled", 2024, eq. 1 to 3.
    The constants were chosen on five tasks with MNIST and digits (docs/untuned.md).

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
    _rising_eta = 0.2  # and until h is negative for the first time
    _memory = 0.98  # mu
    _spread_memory = 0.995
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
            numbers = dict.fromkeys(("spread", "weight"), 0.0)
            numbers.update(dict.fromkeys(("relative", "rising"), 1.0), lr=first["lr"])
            first.update({name: self._scalar(value) for name, value in numbers.items()})
        added["lr"] = first["lr"]

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the learning rate, then the parameters.

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
        else:
            products = [_inner(tensors[1], tensors[3]).to(rate["lr"]) for _, _, tensors in parts]
            self._move_rate(-sum(products, start=torch.zeros_like(rate["lr"])))
        for batch in _batches(parts):
            self._descend(batch)
        return loss

    # alpha_t = alpha_{t-1} exp(eta clip(h_t / E|h|, -1, 1))

    def _move_rate(self, h: Tensor) -> None:
        rate = self.param_groups[0]
        alpha, relative, spread, weight, rising = (rate[name] for name in TENSORS)
        t, keep = rate["step"], self._spread_memory
        h = torch.where(h.isfinite(), h.to(alpha), 0.0)
        before = spread / (1 - keep ** max(t - 2, 1))
        most = torch.where(before > 0, self._outlier * before, torch.inf)
        spread.lerp_(h.abs().minimum(most), 1 - keep)
        mean = spread / (1 - keep ** (t - 1))
        c = torch.where(mean > 0, h / mean, 0.0).clamp(-1.0, 1.0)
        rising.mul_(h >= 0)
        eta = self._eta + (self._rising_eta - self._eta) * rising
        moved = relative * torch.exp(eta * c)
        moved.clamp_(min=self._floor)
        alpha.mul_(moved / relative)
        raised = moved.clamp(min=1.0)  # the largest rate over the largest before
        relative.copy_(moved.clamp(max=1.0))
        # 1 / c_t = sum of all weights / the last one, for weights t^3 (largest rate)^2
        weight.mul_(((t - 1) / t) ** self._power / raised**2).add_(1.0)

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
        rate["lr"].copy_(rate["lr"].minimum(bound))
        rate["weight"].fill_(1.0)

    # z, x, y and the move of y

    def _descend(self, batch: list[Part]) -> None:
        group, rate = batch[0].group, self.param_groups[0]
        t = [part.t for part in batch]
        y, g, z, m, v = (list(each) for each in zip(*(part.tensors for part in batch), strict=True))
        b, beta2 = group["betas"]
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
        torch._foreach_add_(m, move)
        torch._foreach_mul_(m, self._memory)

    def _part(self, group: Group, p: Tensor) -> Part:
        state = self.state[p]
        if not state:
            state.update(step=0, z=p.clone(), moved=torch.zeros_like(p))
            if group["base"] == "adam":
                state["exp_avg_sq"] = torch.zeros_like(p)
        state["step"] += 1
        own = state["z"], state["moved"], state.get("exp_avg_sq", p)
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
