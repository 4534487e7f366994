"""Starting to train: runs and what was saved of them become a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.devices import prepare
from hypergradient.study.train.ensemble import Ensemble
from hypergradient.study.train.groups import ensemble_spec
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.own import OwnTraining
from hypergradient.study.train.training import Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypergradient.study.declare.run import Run
    from hypergradient.study.tasks.data.batches import Batches
    from hypergradient.study.train.records import State
    from hypergradient.study.train.session import Session


def start_session(
    runs: Sequence[Run], data: Data | Batches, saved: Sequence[State] = ()
) -> Session:
    """Return the session that trains one of the lists of ``groups.group_runs``.

    Args:
        runs: The runs: a single one that is trained alone, or the members of an ensemble.
        data: Their task's data.
        saved: What ``Session.states`` gave of each in an earlier process, or nothing.
    """
    torch.set_num_threads(runs[0].threads)  # before the weights are drawn
    prepare(torch.device(runs[0].device))
    if ensemble_spec(runs[0]) is not None and isinstance(data, Data):
        return Ensemble(runs, data, saved)
    (run,) = runs
    kind = Training if find_task(run.task).is_plain and isinstance(data, Data) else OwnTraining
    return kind(run, initial_model(run), data, saved=saved[0] if saved else None)
