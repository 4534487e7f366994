"""The gradient that a step goes down, and which parameters have one."""

from torch import Tensor

from hypergradient.options import Group


def with_gradient(group: Group) -> list[Tensor]:
    return [p for p in group["params"] if p.grad is not None]


def gradient_of(p: Tensor) -> Tensor:
    assert p.grad is not None  # noqa: S101 - callers pass parameters with gradients
    return p.grad


def dense_gradient(p: Tensor) -> Tensor:
    grad = gradient_of(p)
    return grad.to_dense() if grad.is_sparse else grad


def effective(group: Group, grad: Tensor, theta: Tensor) -> Tensor:
    """g_t: the gradient of what is minimised, with L2 decay; never written into p.grad."""
    g = -grad if group["maximize"] else grad
    decay = group["weight_decay"]
    if group.get("decoupled_weight_decay"):
        return g
    if isinstance(decay, Tensor):
        return g + decay * theta.clone()  # the graph may hold theta, which is about to move
    return g.add(theta, alpha=decay) if decay != 0 else g
