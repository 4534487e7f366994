"""Which runs are trained together, as one stack, and which one by one.

That is a matter of the run alone: of its task, method and schedule. In a stack, too, a run's
numbers do not depend on the others (see ``ensemble``), so it does not matter who is in it: a study
that is resumed, extended or shared between commands and machines has the numbers it would have had.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypergradient.study.import_by_name import import_object
from hypergradient.study.methods.registry import find_method
from hypergradient.study.methods.schedules import SCHEDULES
from hypergradient.study.tasks.registry import find_task

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Sequence

    from hypergradient.study.declare.run import Run

STACKED, ONE_BY_ONE = "stacked", "one by one"
"""The engines, as a run's status names them."""

MOST = 48
"""The members of a stack, at most: larger ones gain little, and would leave other workers idle."""

OURS = {
    "torch.optim:SGD": "hypergradient:SGDHD",
    "torch.optim:Adam": "hypergradient:AdamHD",
    "torch.optim:AdamW": "hypergradient:AdamWHD",
    **{name: name for name in ("hypergradient:SGDHD", "hypergradient:AdamHD")},
    "hypergradient:AdamWHD": "hypergradient:AdamWHD",
}
"""The optimizer that trains a stack: a base method is ours at ``hypergrad_lr=0``."""

OF_THE_RATE = frozenset({"rule", "reduction", "product", "lr_bounds"})
"""Options that say how a rate moves, and so nothing where it does not."""

OF_THE_STEP = frozenset({"granularity", "foreach", "fused", "differentiable", "capturable"})
"""Options that a stack has no room for."""


@dataclass(frozen=True)
class EnsembleSpec:
    """What a run asks of the optimizer of its stack.

    Attributes:
        optimizer: The class, as ``package.module:Class``.
        lr: The initial learning rate.
        hypergrad_lr: Its own step size, 0 for a base method.
        options: The other options, which all members share.
        of_the_rate: Those of ``OF_THE_RATE``, or None for a base method, to which all are alike.
    """

    optimizer: str
    lr: float
    hypergrad_lr: float
    options: tuple[tuple[str, Any], ...]
    of_the_rate: tuple[tuple[str, Any], ...] | None


def ensemble_spec(run: Run) -> EnsembleSpec | None:
    """Return a run's place in a stack, or None if it is trained one by one."""
    method = find_method(run.method)
    if not find_task(run.task).stacked or SCHEDULES[run.schedule] is not None:
        return None
    if (optimizer := OURS.get(method.optimizer)) is None or OF_THE_STEP & run.hyper.keys():
        return None
    hyper = {key: None if value == "none" else value for key, value in run.hyper.items()}
    options = {key: value for key, value in method.fixed.items() if key != "fused"} | hyper
    options["weight_decay"] = run.weight_decay
    defaults = inspect.signature(import_object(optimizer)).parameters
    lr = options.pop("lr", defaults["lr"].default)
    hypergrad_lr = options.pop("hypergrad_lr", defaults["hypergrad_lr"].default)
    return EnsembleSpec(
        optimizer,
        lr,
        hypergrad_lr if method.has_own_schedule else 0.0,
        tuple(sorted((key, options[key]) for key in options.keys() - OF_THE_RATE)),
        tuple(sorted((key, options[key]) for key in options.keys() & OF_THE_RATE))
        if method.has_own_schedule
        else None,
    )


def group_runs(runs: Iterable[Run], *, alone: Collection[str] = ()) -> list[list[Run]]:
    """Return the runs in the order of work, each in one list with those it is trained with.

    Args:
        runs: Any runs.
        alone: The ids of those that are to be the only members of their stacks.
    """
    kin: dict[Hashable, dict[Hashable, list[Run]]] = {}
    for place, run in enumerate(runs):
        own = ensemble_spec(run)
        if own is None or run.id in alone:
            kin[place] = {None: [run]}
            continue
        same = run.model_dump(mode="json", exclude={"method", "hyper", "schedule"})
        like = (repr(same), own.optimizer, own.options)
        kin.setdefault(like, {}).setdefault(own.of_the_rate, []).append(run)
    found = []
    for by_rate in kin.values():
        if len(by_rate) > 1 and None in by_rate:
            bases = by_rate.pop(None)
            next(iter(by_rate.values())).extend(bases)
        for together in by_rate.values():
            found += split_evenly(together)
    return found


def split_evenly(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs in the fewest lists that are not too long, of nearly one length."""
    count = math.ceil(len(runs) / MOST)
    return [list(runs[i::count]) for i in range(count)]
