"""Visits to parameters: inner products of g_t with u_{t-1}, and the writing down of u_t.

This is the eager way, which is right everywhere, and the reference for the compiled one
(`native.py`), which is used where it applies: it reads each tensor once, for all parameters of a
step together, and may then move theta as well.
"""

from torch import Tensor

from hypergradient import native
from hypergradient.gradients import effective
from hypergradient.pieces import in_graph, inner, inner_by_member, pieces
from hypergradient.pools import move_elements, plain
from hypergradient.visits import Batches, Update, Visit


def visit_all(batches: Batches) -> native.Job:
    """Fill the pools, move element-wise rates, and write down each u_t that is kept.

    Returns:
        What the C function does, and may have to `descend`.
    """
    job = native.Job(batches)
    job.visit()
    for update, visits in job.others:
        for visit in visits:
            _visit(update, visit)
    return job


def _visit(update: Update, visit: Visit) -> None:
    group, pool, direction, kept, _ = update
    recorded = in_graph()
    for theta, grad, alpha, *memory in pieces(visit.p, visit.grad, visit.alpha, *visit.memory):
        g = effective(group, grad, theta)
        if group["differentiable"]:  # what the graph holds must not be written to below
            u = direction(theta.clone(), alpha.clone(), *(t.clone() for t in memory))
        else:
            u = direction(theta, alpha, *memory)
        if pool is None:
            move_elements(group, alpha, g, u)
        else:
            pairs = ((g, u), (g, g), (u, u)) if pool.norms else ((g, u),)
            product = inner_by_member if alpha.dim() else inner
            products = [product(*pair) for pair in pairs]
            count = g.numel() // products[0].numel()
            pool.add(count, *(products if recorded or alpha.dim() else map(plain, products)))
        if kept is not None:
            _keep(kept, g, *memory)


def _keep(kept: tuple[float, float], g: Tensor, u: Tensor, *rest: Tensor) -> None:
    a, b = kept
    u.copy_(g if a == 1 else g * a)
    if b:
        u.add_(rest[0], alpha=b)
