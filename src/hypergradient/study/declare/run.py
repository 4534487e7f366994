"""One run, a value: everything that its result depends on, its id and its seeds.

A run's id is the hash of everything that determines its result, so that results are found again,
shared between studies and never confused. Its seeds are hashes too, and leave the method out, so
that all methods start from the same weights and see the same batches.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property

from hypergradient.study.declare.fields import (
    Autocast,
    Count,
    DeviceName,
    Frozen,
    Loss,
    MethodName,
    ScheduleName,
    TaskName,
    Value,
)
from hypergradient.study.import_by_name import recorded_name
from hypergradient.study.methods.registry import method_identity
from hypergradient.study.tasks.registry import task_identity

RESULTS_VERSION = 9
"""The version of all results: whoever changes the code so that a run's numbers differ raises it."""


LATER = ("whole_train_loss", "steps", "autocast", "channels_last")
"""Fields that runs did not have at first; what leaves them out is the same run."""


def fingerprint(content: object) -> str:
    """Return the sha256 of ``content`` as canonical JSON, 64 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Until(Frozen):
    """When a run ends before its last epoch, to measure its iterations to convergence.

    Attributes:
        minibatch_loss: The run ends at the first minibatch whose loss, before its update, is at
            most this.
        max_steps: The run ends after this many updates if no loss was. It is then censored.
    """

    minibatch_loss: Loss
    max_steps: Count


class Run(Frozen):
    """One training: task x method x hyperparameters x seed, and all else its result depends on.

    Attributes:
        task: A name in ``TASKS``, or a reference to a person's own.
        method: A name in ``METHODS``, of a class of ``torch.optim``, or a reference to a class.
        schedule: A name in ``SCHEDULES``.
        hyper: The hyperparameters that the study sets, by the optimizer's own option names.
        seed: Which repetition this is.
        study_seed: The study's own seed.
        epochs: Passes over the training data.
        batch_size: Examples in a minibatch.
        weight_decay: The L2 penalty, the optimizer's option of that name.
        train_examples: How many of the training set are used; None is all.
        valid_examples: How many of the validation set; None is all.
        decay_epochs: Epochs between two halvings, where the schedule is ``lr-decay``.
        until: When it ends before its last epoch.
        steps: Updates after which it ends, where that is before its last epoch's end.
        whole_train_loss: Whether the training loss is that of the whole training set after each
            epoch, in evaluation mode, and not the mean over the epoch's minibatches.
        device: Where it is trained.
        autocast: In what the model computes where float32 is not needed; None is float32. Weights,
            gradients and the optimizer's states are in float32.
        channels_last: Whether weights and images lie in memory with the channels last.
        threads: Threads of torch; pinned, as results differ between thread counts.
        results_version: ``RESULTS_VERSION`` at the time.
    """

    task: TaskName
    method: MethodName
    schedule: ScheduleName = "constant"
    hyper: dict[str, Value]
    seed: int
    study_seed: int
    epochs: int
    batch_size: int
    weight_decay: float
    train_examples: int | None = None
    valid_examples: int | None = None
    decay_epochs: int | None = None
    until: Until | None = None
    steps: int | None = None
    whole_train_loss: bool = False
    device: DeviceName = "cpu"
    autocast: Autocast | None = None
    channels_last: bool = False
    threads: int = 1
    results_version: int = RESULTS_VERSION

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the hash of the run and of what its names stand for."""
        names = {"task": task_identity(self.task), "method": method_identity(self.method)}
        content = self.model_dump(mode="json", exclude={"results_version"})
        for later in LATER:
            if not content[later]:
                del content[later]
        if self.device == "cpu":
            del content["device"]
        content |= {
            "task": recorded_name(self.task),
            "method": recorded_name(self.method),
            "engine": self.results_version,
            "names": names,
        }
        return fingerprint(content)[:16]

    def derive_seed(self, purpose: str, *index: int) -> int:
        """Return this run's seed for one purpose, the same for every method.

        Args:
            purpose: "initialisation", "batches", "augmentation" or "dropout".
            index: Counts within the purpose, such as the epoch.

        Returns:
            A hash of the study's seed, the task, the seed and ``purpose``, in [0, 2**63).
        """
        task = recorded_name(self.task)
        return int(fingerprint([self.study_seed, task, self.seed, purpose, *index])[:16], 16) >> 1
