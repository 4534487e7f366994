"""A declared study: one TOML file, checked, that expands into runs."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hypergradient.study.declare.fields import (
    FIGURES,
    TRUST_NAMES,
    Autocast,
    Count,
    DeviceName,
    FigureName,
    Frozen,
    PerTask,
    Seed,
    TaskName,
    not_empty,
    of_task,
)
from hypergradient.study.declare.grid import MethodEntry, refuse_many
from hypergradient.study.declare.run import Run, Until
from hypergradient.study.methods.registry import find_method
from hypergradient.study.methods.schedules import DECAY_EPOCHS


class Study(Frozen):
    """A declared study, at one of its scales.

    Attributes:
        name: The file's name without ``.toml``.
        title: The report's heading.
        description: What it shows, a sentence or two.
        source: The publication it follows.
        scale: Which of its scales this is, or None where it has none.
        time: What the scale takes, in words.
        tasks: Names in ``TASKS``, or ``path/to/file.py:function`` for a person's own.
        methods: The methods, their schedules and grids.
        seeds: The repetitions.
        study_seed: Changes every seed at once.
        epochs: Passes over the training data; a number, or one for each task by its name.
        batch_size: Examples in a minibatch, as for epochs.
        weight_decay: The L2 penalty of all methods.
        train_examples: How many of the training set are used, as for epochs; None is all.
        valid_examples: How many of the validation set.
        decay_epochs: Epochs between two halvings of ``lr-decay``, as for epochs.
        until: When a run ends before its last epoch.
        steps: Updates after which a run ends, where that is before its last epoch's end.
        lengths: By what the epochs, steps and epochs between two halvings of every task are
            multiplied. With several lengths each task is run at all of them, and in tables its name
            ends with the length, as in "digits-mlp x4".
        whole_train_loss: Whether the training loss is that of the whole training set after each
            epoch, in evaluation mode, and not the mean over the epoch's minibatches.
        device: Where its runs are trained.
        autocast: In what models compute where float32 is not needed: "bfloat16", or None.
        channels_last: Whether weights and images lie in memory with the channels last.
        selection: Those of the tasks on which something was chosen; the figure "untuned" shows
            them apart from the others, which can support a claim.
        published: Numbers to set beside ours, a CSV file beside the study's own.
        figures: What the report shows, names in ``FIGURES``; by default what suits it.
    """

    name: str
    title: str
    description: str = ""
    source: str = ""
    scale: str | None = None
    time: str = ""
    tasks: Annotated[tuple[TaskName, ...], AfterValidator(not_empty)]
    methods: Annotated[tuple[MethodEntry, ...], AfterValidator(not_empty)]
    seeds: Annotated[tuple[Seed, ...], AfterValidator(not_empty)]
    study_seed: Seed = 0
    epochs: PerTask
    batch_size: PerTask
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    train_examples: PerTask | None = None
    valid_examples: PerTask | None = None
    decay_epochs: PerTask = DECAY_EPOCHS
    until: Until | None = None
    steps: PerTask | None = None
    lengths: Annotated[tuple[Count, ...], AfterValidator(not_empty)] = (1,)
    whole_train_loss: bool = False
    device: DeviceName = "cpu"
    autocast: Autocast | None = None
    channels_last: bool = False
    selection: tuple[TaskName, ...] = ()
    published: str | None = None
    figures: tuple[FigureName, ...] = ()
    _runs: list[Run] | None = PrivateAttr(default=None)

    @field_validator("figures", mode="before")
    @classmethod
    def figures_are_known(cls, figures: object) -> object:
        """Refuse names that no figure has, all of them at once."""
        names = figures if isinstance(figures, list | tuple) else ()
        if unknown := [n for n in names if isinstance(n, str) and n not in FIGURES]:
            known = ", ".join(FIGURES)
            raise ValueError(f"{', '.join(unknown)} is not known; choose from {known}")
        return figures

    @field_validator(
        "epochs", "batch_size", "train_examples", "valid_examples", "decay_epochs", "steps"
    )
    @classmethod
    def covers_all_tasks(cls, counts: object, parts: ValidationInfo) -> object:
        """Check that no task is left out of what is declared for each."""
        if isinstance(counts, dict):
            if left_out := [task for task in parts.data.get("tasks", ()) if task not in counts]:
                raise ValueError(f"nothing for the task {', '.join(left_out)}")
            if unknown := counts.keys() - set(parts.data.get("tasks", counts)):
                raise ValueError(f"{', '.join(sorted(unknown))} is none of the study's tasks")
        return counts

    @field_validator("weight_decay")
    @classmethod
    def methods_take_it(cls, weight_decay: float, parts: ValidationInfo) -> float:
        """Check that all methods have the option, unless it is 0."""
        if parts.context == TRUST_NAMES:
            return weight_decay
        names = dict.fromkeys(
            name for entry in parts.data.get("methods", ()) for name in entry.names
        )
        without = [name for name in names if not find_method(name).accepts("weight_decay")]
        if weight_decay and without:
            raise ValueError(f"{', '.join(without)} has no such option; only 0 is possible")
        return weight_decay

    @model_validator(mode="after")
    def is_of_a_size(self, info: ValidationInfo) -> Self:
        """Refuse a study of too many runs before they are expanded."""
        if info.context == TRUST_NAMES:
            return self
        of_a_task = sum(
            entry.count() * sum(len(entry.schedules_of(name)) for name in entry.names)
            for entry in self.methods
        )
        refuse_many(len(self.seeds) * len(self.tasks) * len(self.lengths) * of_a_task)
        return self

    def on(self, device: DeviceName) -> Self:
        """Return the study with its runs on another device."""
        return self.model_copy(update={"device": device})

    def with_runs(self, runs: list[Run]) -> Self:
        """Return the study with its runs, which were expanded before."""
        self._runs = runs
        return self

    def task_name(self, run: Run) -> str:
        """Return what tables call a run's task: with its length, if there are several."""
        if len(self.lengths) == 1:
            return run.task
        return f"{run.task} x{run.epochs // of_task(self.epochs, run.task)}"

    def runs(self) -> list[Run]:
        """Return the study's runs, each once; a seed's are together, so that seeds fill in turn."""
        if self._runs is not None:
            return self._runs
        runs = (
            Run(
                task=task,
                method=method,
                schedule=schedule,
                hyper=setting,
                seed=seed,
                study_seed=self.study_seed,
                epochs=length * of_task(self.epochs, task),
                batch_size=of_task(self.batch_size, task),
                weight_decay=self.weight_decay,
                train_examples=of_task(self.train_examples, task),
                valid_examples=of_task(self.valid_examples, task),
                decay_epochs=length * of_task(self.decay_epochs, task)
                if schedule == "lr-decay"
                else None,
                until=self.until,
                steps=None if self.steps is None else length * of_task(self.steps, task),
                whole_train_loss=self.whole_train_loss,
                device=self.device,
                autocast=self.autocast,
                channels_last=self.channels_last,
            )
            for seed in self.seeds
            for task in self.tasks
            for length in self.lengths
            for entry in self.methods
            for method in entry.names
            for schedule in entry.schedules_of(method)
            for setting in entry.settings()
        )
        return list({run.id: run for run in runs}.values())
