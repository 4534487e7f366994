"""What to run: a study is declared in one TOML file and expands into runs, each a value.

A run's id is the hash of everything that determines its result, so that results are found again,
shared between studies and never confused; its seeds are hashes too, and leave the method out, so
that all methods start from the same weights and see the same batches.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from difflib import get_close_matches
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from hypergradient.study import StudyError
from hypergradient.study.methods import METHODS
from hypergradient.study.tasks import TASKS

ENGINE = 1
"""The version of the numbers: raised whenever a change makes some run's result different."""

BUILT_IN = Path(__file__).parents[1] / "studies"
"""The folder of the studies that come with the package."""


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def fingerprint(content: object) -> str:
    """Return the sha256 of ``content`` as canonical JSON, 64 hex digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def known_in(kind: str, names: dict[str, Any]) -> AfterValidator:
    """Return a validator that a name is a key of ``names``, suggesting close ones."""

    def check(name: str) -> str:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"choose from {', '.join(names)}"
            raise ValueError(f"{kind} {name!r} is not known; {hint}")
        return name

    return AfterValidator(check)


def number_text_or_truth(value: object) -> bool | float | str:
    """Check one value of a hyperparameter; integers become floats, so 1 and 1.0 are one run."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r} is not a finite number, a text, true or false")


def not_empty(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list; unlike ``min_length`` it is silent where the list's items are wrong."""
    if not values:
        raise ValueError("is empty")
    return values


def as_list(value: object) -> object:
    """Let a single value stand for a list of one."""
    return value if isinstance(value, list | tuple) else [value]


TaskName = Annotated[str, known_in("task", TASKS)]
MethodName = Annotated[str, known_in("method", METHODS)]
Value = Annotated[bool | float | str, PlainValidator(number_text_or_truth)]
Values = Annotated[tuple[Value, ...], BeforeValidator(as_list), AfterValidator(not_empty)]


class Run(Frozen):
    """One training: task x method x hyperparameters x seed, and all else its result depends on.

    Attributes:
        task: A name in ``TASKS``.
        method: A name in ``METHODS``.
        hyper: The hyperparameters that the study sets, by the optimizer's own option names.
        seed: Which repetition this is.
        study_seed: The study's own seed.
        epochs: Passes over the training data.
        batch_size: Examples in a minibatch.
        weight_decay: The L2 penalty, the optimizer's option of that name.
        threads: Threads of torch; pinned, as results differ between thread counts.
        engine: ``ENGINE`` at the time.
    """

    task: TaskName
    method: MethodName
    hyper: dict[str, Value]
    seed: int
    study_seed: int
    epochs: int
    batch_size: int
    weight_decay: float
    threads: int = 1
    engine: int = ENGINE

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of the hash of the run and of what its names stand for."""
        names = {"task": TASKS[self.task].identity(), "method": METHODS[self.method].identity()}
        return fingerprint(self.model_dump(mode="json") | {"names": names})[:16]

    def derive_seed(self, purpose: str, *index: int) -> int:
        """Return this run's seed for one purpose, the same for every method.

        Args:
            purpose: "initialisation" or "batches".
            index: Counts within the purpose, such as the epoch.

        Returns:
            A hash of the study's seed, the task, the seed and ``purpose``, in [0, 2**63).
        """
        return (
            int(fingerprint([self.study_seed, self.task, self.seed, purpose, *index])[:16], 16) >> 1
        )


class MethodEntry(Frozen):
    """Methods that share a grid, the product of each hyperparameter's list of values."""

    names: Annotated[tuple[MethodName, ...], BeforeValidator(as_list), AfterValidator(not_empty)]
    grid: dict[str, Values]

    def settings(self) -> list[dict[str, Value]]:
        """Return every combination of the grid, the last hyperparameter changing fastest."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())
        ]

    @model_validator(mode="after")
    def optimizers_accept_it(self) -> MethodEntry:
        """Build each optimizer once with each setting: they know best what they accept."""
        problems = {
            f"{name}: {problem}": None
            for name in self.names
            for setting in self.settings()
            if (problem := METHODS[name].problem(setting))
        }
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Study(Frozen):
    """A declared study.

    Attributes:
        name: The file's name without ``.toml``.
        title: The report's heading.
        description: What it shows, a sentence or two.
        source: The publication it follows.
        tasks: Names in ``TASKS``.
        methods: The methods and their grids.
        seeds: The repetitions.
        study_seed: Changes every seed at once.
        epochs: Passes over the training data.
        batch_size: Examples in a minibatch.
        weight_decay: The L2 penalty of all methods.
        published: Numbers to set beside ours, a CSV file beside the study's own.
    """

    name: str
    title: str
    description: str = ""
    source: str = ""
    tasks: Annotated[tuple[TaskName, ...], AfterValidator(not_empty)]
    methods: Annotated[tuple[MethodEntry, ...], AfterValidator(not_empty)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(not_empty)]
    study_seed: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    published: str | None = None

    def runs(self) -> list[Run]:
        """Return the study's runs, each once; a seed's are together, so that seeds fill in turn."""
        runs = (
            Run(
                task=task,
                method=method,
                hyper=setting,
                seed=seed,
                study_seed=self.study_seed,
                epochs=self.epochs,
                batch_size=self.batch_size,
                weight_decay=self.weight_decay,
            )
            for seed in self.seeds
            for task in self.tasks
            for entry in self.methods
            for method in entry.names
            for setting in entry.settings()
        )
        return list({run.id: run for run in runs}.values())


def built_in() -> dict[str, Path]:
    """Return the files of the studies that come with the package, by name."""
    return {path.stem: path for path in sorted(BUILT_IN.glob("*.toml"))}


def find(study: str) -> Path:
    """Return the file of a study given by name or by a path that ends in ``.toml``.

    Raises:
        StudyError: There is none; the message suggests close names.
    """
    if study.endswith(".toml"):
        if not (path := Path(study)).is_file():
            raise StudyError(f"no study file {study}")
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
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"{path}: {error}") from error


def load(path: Path) -> Study:
    """Read and validate a study.

    Raises:
        StudyError: All that is wrong with the file, one line each, with the place it is at.
    """
    content = read_toml(path)
    problems: list[str] = []
    study = None
    try:
        study = Study.model_validate(content | {"name": path.stem})
    except ValidationError as error:
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            problems.append(f"{path}: {place}: {problem['msg'].removeprefix('Value error, ')}")
    published = content.get("published")
    if isinstance(published, str) and not (path.parent / published).is_file():
        problems.append(f"{path}: published: no file {published} beside the study")
    if problems or study is None:
        raise StudyError("\n".join(problems))
    return study
