"""Which runs are trained together as an ensemble, and which are trained one by one.

Whether a run can be in an ensemble depends on the run alone: on its task, method and schedule. Its
numbers do not depend on the other members (see ``ensemble``). So a study that is resumed, extended,
or shared between commands and machines has the numbers that it would have had otherwise.
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
"""How a run was trained, in an ensemble or alone, as the column ``engine`` of results says."""

MOST = 48
"""The most members of an ensemble: a larger one gains little and leaves other workers idle."""

OURS = {
    "torch.optim:SGD": "hypergradient:SGDHD",
    "torch.optim:Adam": "hypergradient:AdamHD",
    "torch.optim:AdamW": "hypergradient:AdamWHD",
    **{name: name for name in ("hypergradient:SGDHD", "hypergradient:AdamHD")},
    "hypergradient:AdamWHD": "hypergradient:AdamWHD",
}
"""The optimizer that trains an ensemble; a base method is this one at ``hypergrad_lr=0``."""

OF_THE_RATE = frozenset({"rule", "reduction", "product", "lr_bounds"})
"""Options that say how a rate moves. They mean nothing for a rate that does not move."""

OF_THE_STEP = frozenset({"granularity", "foreach", "fused", "differentiable", "capturable"})
"""Options that an ensemble cannot have: a run that sets one is trained alone."""


@dataclass(frozen=True)
class EnsembleSpec:
    """What a run asks of the optimizer of its ensemble.

    Attributes:
        optimizer: The class, as ``package.module:Class``.
        lr: The run's initial learning rate.
        hypergrad_lr: The step size of the learning rate's own update, 0 for a base method.
        options: The other options, which must be the same for all members.
        of_the_rate: The options of ``OF_THE_RATE``. They are None for a base method, which can be
            in an ensemble with any of them.
    """

    optimizer: str
    lr: float
    hypergrad_lr: float
    options: tuple[tuple[str, Any], ...]
    of_the_rate: tuple[tuple[str, Any], ...] | None


def ensemble_spec(run: Run) -> EnsembleSpec | None:
    """Return what a run asks of its ensemble's optimizer, or None if it is trained alone."""
    method = find_method(run.method)
    if not find_task(run.task).stacked or SCHEDULES[run.schedule] is not None:
        return None
    if run.autocast is not None or run.channels_last:  # they change how members round
        return None
    if (optimizer := OURS.get(method.optimizer)) is None or OF_THE_STEP & run.hyper.keys():
        return None
    if any(isinstance(value, tuple | dict) for value in run.hyper.values()):  # towers, `learn`
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
    """Return the runs in the order of work, in lists of runs that are trained together.

    Workers and ``plan`` call this with the same runs and get the same lists.

    Args:
        runs: Any runs.
        alone: The ids of runs that must not be trained with others.
    """
    kin: dict[Hashable, dict[Hashable, list[Run]]] = {}
    for place, run in enumerate(runs):
        spec = ensemble_spec(run)
        if spec is None or run.id in alone:
            kin[place] = {None: [run]}
            continue
        same = run.model_dump(mode="json", exclude={"method", "hyper", "schedule"})
        like = (repr(same), spec.optimizer, spec.options)
        kin.setdefault(like, {}).setdefault(spec.of_the_rate, []).append(run)
    groups = []
    for by_rate in kin.values():
        if len(by_rate) > 1 and None in by_rate:
            bases = by_rate.pop(None)  # they can join any of the others
            next(iter(by_rate.values())).extend(bases)
        for together in by_rate.values():
            groups += split_evenly(together)
    return groups


def split_evenly(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the runs in as few lists of at most ``MOST`` as possible, of nearly equal lengths."""
    count = math.ceil(len(runs) / MOST)
    return [list(runs[i::count]) for i in range(count)]
