"""The interface of training: what one run alone and an ensemble of runs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch

from hypergradient.study.train.batches import EpochBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from hypergradient.study.declare.run import Run
    from hypergradient.study.methods.traits import Traits
    from hypergradient.study.tasks.data.base import Data
    from hypergradient.study.tasks.data.batches import Batches
    from hypergradient.study.train.records import RunRecord, State


class Session(EpochBatches, ABC):
    """Runs under way, between two steps of an epoch.

    ``run.train_runs`` drives every session, whether it trains one run or many. It iterates over
    ``train``, writes each record down, and takes ``states`` between two steps when a checkpoint
    is due. A session itself reads and writes no file.

    Args:
        runs: The runs. They share their task, batches and epochs.
        data: The task's data, of which the runs use their subset.

    Attributes:
        kind: How the runs are trained, "stacked" or "one by one", as their status says.
        runs: The runs that are still trained. A run leaves when it ends.
        init_hash: The hash of the weights before training, the same for all runs.
    """

    kind: ClassVar[str]
    init_hash: str

    def __init__(self, runs: Sequence[Run], data: Data | Batches) -> None:
        torch.set_num_threads(runs[0].threads)
        self.runs = list(runs)
        super().__init__(runs[0], data)

    @abstractmethod
    def train(self, after_step: Callable[[Session], None]) -> Iterator[RunRecord]:
        """Train until every run has ended.

        Args:
            after_step: Called after each step with this session. ``states`` may be taken there.

        Yields:
            A run's record after each epoch, and first the one of its state before training, unless
            an earlier process has yielded that.
        """

    @abstractmethod
    def states(self) -> dict[str, State]:
        """Return a snapshot of each run by its id, which must be saved before the next step.

        A new session of the same runs takes it as ``saved`` and goes on with the same numbers.
        """

    @abstractmethod
    def traits(self, run: Run) -> Traits:
        """Return what the optimizer of one of the runs is, for the run's status."""

    @abstractmethod
    def make_step(self) -> None:
        """Make the next update of each run. The caller begins a new epoch after the last step."""

    @abstractmethod
    def evaluate_runs(self, x: Tensor, y: Tensor) -> list[tuple[float, float]]:
        """Return each run's mean loss and accuracy over examples, in evaluation mode."""

    def evaluate_part(self, examples: int) -> float:
        """Evaluate a few examples, and return which share of an epoch's evaluation that is."""
        few = self.valid_x[:examples], self.valid_y[:examples]
        self.evaluate_runs(*few)
        every = len(self.valid_y) + self.run.whole_train_loss * len(self.train_y)
        return len(few[1]) / every

    def cost(self) -> dict[str, float]:
        """Return what a step costs, by the columns of ``runs``; nothing where it is not known."""
        return {}


def do_nothing(_: Session) -> None:
    """Do nothing after a step."""
