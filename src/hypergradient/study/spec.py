"""What to run: a study is declared in one TOML file and expands into runs, each a value.

A run's id is the hash of everything that determines its result, so that results are found again,
shared between studies and never confused; its seeds are hashes too, and leave the method out, so
that all methods start from the same weights and see the same batches.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hypergradient.study import StudyError, methods, tasks
from hypergradient.study.counts import Count, Loss, PerTask, Seed, of_task
from hypergradient.study.grids import (
    Frozen,
    MethodEntry,
    MethodName,
    ScheduleName,
    TaskName,
    Value,
    not_empty,
    refuse_many,
)
from hypergradient.study.schedules import DECAY_EPOCHS

if TYPE_CHECKING:
    from collections.abc import Iterable

ENGINE = 3
"""The version of the numbers: raised whenever a change makes some run's result different."""

BUILT_IN = Path(__file__).parents[1] / "studies"
"""The folder of the studies that come with the package."""


SCALABLE = (
    *("tasks", "methods", "seeds", "epochs", "batch_size", "train_examples", "valid_examples"),
    *("decay_epochs", "until", "time"),
)
"""What a scale of a study can change."""

DEFAULT_SCALE = "laptop"

LONGEST = 1000
"""Characters of a message."""


def fingerprint(content: object) -> str:
    """Return the sha256 of ``content`` as canonical JSON, 64 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Until(Frozen):
    """When a run ends before its last epoch: iterations to convergence are what it measures.

    Attributes:
        minibatch_loss: At the first minibatch whose loss, before its update, is at most this.
        max_steps: After this many updates, if that has not come: the run is censored.
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
        whole_train_loss: Whether the training loss is that of the whole training set after each
            epoch, in evaluation mode, and not the mean over the epoch's minibatches.
        threads: Threads of torch; pinned, as results differ between thread counts.
        engine: ``ENGINE`` at the time.
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
    whole_train_loss: bool = False
    threads: int = 1
    engine: int = ENGINE

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the hash of the run and of what its names stand for."""
        names = {"task": tasks.identity(self.task), "method": methods.identity(self.method)}
        content = self.model_dump(mode="json")
        if not self.whole_train_loss:  # runs did not have it at first
            del content["whole_train_loss"]
        return fingerprint(content | {"names": names})[:16]

    def derive_seed(self, purpose: str, *index: int) -> int:
        """Return this run's seed for one purpose, the same for every method.

        Args:
            purpose: "initialisation", "batches", "augmentation" or "dropout".
            index: Counts within the purpose, such as the epoch.

        Returns:
            A hash of the study's seed, the task, the seed and ``purpose``, in [0, 2**63).
        """
        return (
            int(fingerprint([self.study_seed, self.task, self.seed, purpose, *index])[:16], 16) >> 1
        )


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
        roles: What a hyperparameter is in this study: "scientific", what it asks about;
            "nuisance", tuned for each scientific setting over all seeds; "fixed". By default one
            with several values is scientific, and the others are fixed.
        seeds: The repetitions.
        study_seed: Changes every seed at once.
        epochs: Passes over the training data; a number, or one for each task by its name.
        batch_size: Examples in a minibatch, as for epochs.
        weight_decay: The L2 penalty of all methods.
        train_examples: How many of the training set are used, as for epochs; None is all.
        valid_examples: How many of the validation set.
        decay_epochs: Epochs between two halvings of ``lr-decay``, as for epochs.
        until: When a run ends before its last epoch.
        whole_train_loss: Whether the training loss is that of the whole training set after each
            epoch, in evaluation mode, and not the mean over the epoch's minibatches.
        selection: Those of the tasks on which something was chosen; the figure "untuned" shows
            them apart from the others, which can support a claim.
        published: Numbers to set beside ours, a CSV file beside the study's own.
        figures: What the report shows, names in ``gallery.GALLERY``; by default what suits it.
    """

    name: str
    title: str
    description: str = ""
    source: str = ""
    scale: str | None = None
    time: str = ""
    tasks: Annotated[tuple[TaskName, ...], AfterValidator(not_empty)]
    methods: Annotated[tuple[MethodEntry, ...], AfterValidator(not_empty)]
    roles: dict[str, Literal["scientific", "nuisance", "fixed"]] = Field(default={})
    seeds: Annotated[tuple[Seed, ...], AfterValidator(not_empty)]
    study_seed: Seed = 0
    epochs: PerTask
    batch_size: PerTask
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    train_examples: PerTask | None = None
    valid_examples: PerTask | None = None
    decay_epochs: PerTask = DECAY_EPOCHS
    until: Until | None = None
    whole_train_loss: bool = False
    selection: tuple[TaskName, ...] = ()
    published: str | None = None
    figures: tuple[str, ...] = ()

    @field_validator("figures")
    @classmethod
    def figures_are_known(cls, figures: tuple[str, ...]) -> tuple[str, ...]:
        """Check the figures' names; only studies that name some wait for what draws them."""
        if figures:
            from hypergradient.study.gallery import GALLERY  # noqa: PLC0415

            if unknown := [name for name in figures if name not in GALLERY]:
                known = ", ".join(GALLERY)
                raise ValueError(f"{', '.join(unknown)} is not known; choose from {known}")
        return figures

    @field_validator("epochs", "batch_size", "train_examples", "valid_examples", "decay_epochs")
    @classmethod
    def covers_all_tasks(cls, counts: object, parts: ValidationInfo) -> object:
        """Check that no task is left out of what is declared for each."""
        if isinstance(counts, dict):
            if left_out := [task for task in parts.data.get("tasks", ()) if task not in counts]:
                raise ValueError(f"nothing for the task {', '.join(left_out)}")
            if unknown := counts.keys() - set(parts.data.get("tasks", counts)):
                raise ValueError(f"{', '.join(sorted(unknown))} is none of the study's tasks")
        return counts

    @field_validator("roles")
    @classmethod
    def roles_fit(cls, roles: dict[str, str], parts: ValidationInfo) -> dict[str, str]:
        """Check the roles against the grids."""
        if "methods" not in parts.data:  # they are wrong themselves
            return roles
        tried = tried_values(parts.data["methods"])
        if unknown := [name for name in roles if name not in tried]:
            raise ValueError(f"{', '.join(unknown)} is in no method's grid")
        fixed = [name for name, role in roles.items() if role == "fixed" and len(tried[name]) > 1]
        if fixed:
            raise ValueError(f"{', '.join(fixed)} is fixed, but has several values in a grid")
        return roles

    @field_validator("weight_decay")
    @classmethod
    def methods_take_it(cls, weight_decay: float, parts: ValidationInfo) -> float:
        """Check that all methods have the option, unless it is 0."""
        names = dict.fromkeys(
            name for entry in parts.data.get("methods", ()) for name in entry.names
        )
        without = [name for name in names if not methods.find(name).accepts("weight_decay")]
        if weight_decay and without:
            raise ValueError(f"{', '.join(without)} has no such option; only 0 is possible")
        return weight_decay

    @model_validator(mode="after")
    def is_of_a_size(self) -> Study:
        """Refuse a study of too many runs before they are expanded."""
        of_a_task = sum(
            entry.count() * sum(len(entry.schedules_of(name)) for name in entry.names)
            for entry in self.methods
        )
        refuse_many(len(self.seeds) * len(self.tasks) * of_a_task)
        return self

    def all_roles(self) -> dict[str, str]:
        """Return the role of every hyperparameter, the declared ones and the default ones."""
        default = {
            name: "scientific" if len(values) > 1 else "fixed"
            for name, values in tried_values(self.methods).items()
        }
        return {**default, **self.roles}

    def runs(self) -> list[Run]:
        """Return the study's runs, each once; a seed's are together, so that seeds fill in turn."""
        runs = (
            Run(
                task=task,
                method=method,
                schedule=schedule,
                hyper=setting,
                seed=seed,
                study_seed=self.study_seed,
                epochs=of_task(self.epochs, task),
                batch_size=of_task(self.batch_size, task),
                weight_decay=self.weight_decay,
                train_examples=of_task(self.train_examples, task),
                valid_examples=of_task(self.valid_examples, task),
                decay_epochs=of_task(self.decay_epochs, task) if schedule == "lr-decay" else None,
                until=self.until,
                whole_train_loss=self.whole_train_loss,
            )
            for seed in self.seeds
            for task in self.tasks
            for entry in self.methods
            for method in entry.names
            for schedule in entry.schedules_of(method)
            for setting in entry.settings()
        )
        return list({run.id: run for run in runs}.values())


def tried_values(entries: Iterable[MethodEntry]) -> dict[str, list[Value]]:
    """Return each hyperparameter's values, the most that any one entry has."""
    tried: dict[str, list[Value]] = {}
    for entry in entries:
        for name, values in (entry.grid | entry.zip).items():
            if len(own := list(dict.fromkeys(values))) > len(tried.get(name, [])):
                tried[name] = own
    return tried


def built_in() -> dict[str, Path]:
    """Return the files of the studies that come with the package, by name."""
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.toml"), key=lambda each: each.stem)}


def find(study: str) -> Path:
    """Return the file of a study given by name or by a path that ends in ``.toml``.

    Raises:
        StudyError: There is none; the message suggests close names.
    """
    if study.endswith(".toml"):
        if not is_file(path := Path(study)):
            raise StudyError(f"no study file {one_line(study)}")
        return path
    names = built_in()
    if study not in names:
        close = get_close_matches(study, names, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"
        raise StudyError(f"no study {study!r}: {hint} (or give the path of a .toml file)")
    return names[study]


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's content, or raise a ``StudyError`` that says what is wrong with it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # also of an integer of thousands of digits
        raise StudyError(f"{path}: {error}") from error
    except RecursionError:
        raise StudyError(f"{path}: its lists or tables are nested too deeply") from None


def is_file(path: Path) -> bool:
    """Return whether there is a file of that name, which may be no name at all."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def one_line(text: str) -> str:
    """Return a text from anywhere as one line for a terminal, cut where it is long."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in " ".join(text.split()))
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} ..."


def load(path: Path, scale: str | None = None) -> Study:
    """Read and validate a study with all its scales, and return it at one of them.

    Args:
        path: The TOML file.
        scale: The name of one of its tables ``[scale.NAME]``; by default "laptop" or, where there
            is no such table, the first.

    Raises:
        StudyError: All that is wrong with the file, one line each, with the place it is at.
    """
    content = read_toml(path)
    scales = content.pop("scale", {})
    if not isinstance(scales, dict) or not all(isinstance(s, dict) for s in scales.values()):
        raise StudyError(f"{path}: scale: tables [scale.NAME] are needed")
    problems: dict[str, None] = {}
    studies: dict[str | None, Study] = {}
    for name, changes in scales.items() or [(None, {})]:
        allowed = {key: value for key, value in changes.items() if key in SCALABLE}
        try:
            studies[name] = Study.model_validate(
                content | allowed | {"name": path.stem, "scale": name}
            )
        except ValidationError as error:
            for problem in error.errors():
                place = ".".join(str(part) for part in problem["loc"])
                where = f"scale.{name}.{place}" if place.split(".")[0] in allowed else place
                message = problem["msg"].removeprefix("Value error, ")
                problems[f"{path}: {where}: {message}" if where else f"{path}: {message}"] = None
        for key in changes.keys() - allowed.keys():
            problems[f"{path}: scale.{name}.{key}: only {', '.join(SCALABLE)} can change"] = None
    published = content.get("published")
    if isinstance(published, str) and not is_file(path.parent / published):
        problems[f"{path}: published: no file {published} beside the study"] = None
    if problems:
        raise StudyError("\n".join(map(one_line, problems)))
    if scale is None:
        scale = DEFAULT_SCALE if DEFAULT_SCALE in studies else next(iter(studies))
    if scale not in studies:
        declared = ", ".join(scales) or "none"
        raise StudyError(f"{path.stem} has no scale {scale!r}; declared: {declared}")
    return studies[scale]
