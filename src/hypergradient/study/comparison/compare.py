"""Compare optimizers on a person's own task, from the first look at it to the page."""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from hypergradient.study.commands import (
    check_needs,
    check_own,
    check_writable,
    complain,
    cores,
    write_results,
)
from hypergradient.study.comparison.budget import Size, fit, seconds_of
from hypergradient.study.comparison.declaration import (
    CONTENDERS,
    RATES,
    RIVAL,
    WEIGHT_DECAY,
    contender,
    declare,
    to_toml,
)
from hypergradient.study.comparison.rehearsal import rehearse
from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.remembered import remember
from hypergradient.study.errors import StudyError
from hypergradient.study.figures.compare import draw_compare
from hypergradient.study.files import write_text
from hypergradient.study.import_by_name import import_object, source_hash
from hypergradient.study.results.collect import collect
from hypergradient.study.results.compare import contest, sentences
from hypergradient.study.results.statistics import Statistics
from hypergradient.study.run.execute import POLL_SECONDS, execute, look
from hypergradient.study.run.plan import costs, duration, in_words
from hypergradient.study.run.progress import progress
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.tasks.data.batches import Batches
from hypergradient.study.tasks.own import read_task
from hypergradient.study.tasks.registry import IN_PROCESS, TASKS, InProcess, find_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import polars as pl
    from matplotlib.figure import Figure

    from hypergradient.study.declare.run import Run
    from hypergradient.study.declare.study import Study
    from hypergradient.study.run.execute import Progress
    from hypergradient.study.tasks.registry import Task

SEEDS, EPOCHS, BATCH_SIZE = 3, 10, 64

FILE = "compare.toml"
"""The study's file, in the results folder."""


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        verdict: Who ended where, in words.
        runs: One row a run.
        epochs: One row a run and epoch.
        page: The report, one HTML file.
    """

    verdict: str
    runs: pl.DataFrame
    epochs: pl.DataFrame
    page: Path

    def figure(self, metric: str = "valid_loss", x: str = "epoch") -> Figure:
        """Draw the final values by rate, and the curves of the best setting of each method.

        Args:
            metric: A column of ``epochs``.
            x: "epoch", "step" or "seconds".
        """
        return draw_compare(Statistics(self.runs, self.epochs), metric, x)

    def __str__(self) -> str:
        return f"{self.verdict}\n{self.page}"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the verdict and the figure."""
        from base64 import b64encode  # noqa: PLC0415
        from html import escape  # noqa: PLC0415
        from io import BytesIO  # noqa: PLC0415

        self.figure().savefig(picture := BytesIO(), format="png", dpi=150)
        address = f"data:image/png;base64,{b64encode(picture.getvalue()).decode()}"
        return f'<p>{escape(self.verdict)}</p><img src="{address}" style="max-width: 100%">'


def compare(
    file: str | Path | None = None,
    *,
    model: Any = None,
    data: Any = None,
    loss: Callable[..., Any] | None = None,
    training_step: Callable[..., Any] | None = None,
    metrics: Mapping[str, Callable[..., Any]] | None = None,
    optimizers: Sequence[str] = (),
    rates: Sequence[float] = RATES,
    seeds: int = SEEDS,
    epochs: int | None = None,
    batch_size: int | None = None,
    weight_decay: float = WEIGHT_DECAY,
    budget: str | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = lambda _: None,
    title: str | None = None,
) -> Comparison:
    """Train a tuned AdamW, ``Untuned``, ``AdamWHD`` and others on one task, and compare them.

    All start from the same weights and see the same batches, as often as each other. AdamW is tuned
    over ``rates``, with 5% warm-up and a cosine to 0. The task is a file, or the objects that such
    a file would hold; see ``hypergradient.study.tasks.own``. Of a file, runs are trained by several
    processes, and what is finished is kept for the next call.

    Args:
        file: The path of the file, or the name of a built-in task.
        model: A function that returns the model.
        data: The data, or a function that returns them.
        loss: A function of (outputs, targets).
        training_step: A function of (model, batch) that returns the loss, instead of ``loss``.
        metrics: Functions by name, whose means over the validation set are recorded.
        optimizers: More contenders: ``NAME`` or ``NAME@RATE,RATE``; a name of the study's table,
            of ``torch.optim``, or ``module:Class``.
        rates: The rates of AdamW.
        seeds: The number of repetitions.
        epochs: Passes over the training data; by default the file's ``epochs``, or 10.
        batch_size: Examples in a minibatch; by default the file's ``batch_size``, or 64.
        weight_decay: That of all optimizers.
        budget: A time such as "10m": fewer rates, seeds and epochs are taken so that they fit.
        out: Folder for the results; by default results/compare-FILE, or a temporary one.
        workers: How many processes train at once; by default one a core.
        say: Called with lines that say what is done.
        title: The heading of the page.

    Returns:
        The verdict, the runs, the page and a figure.

    Raises:
        StudyError: Something of the task is missing or does not work; said before any training.
    """
    given = {"model": model, "data": data, "loss": loss, "training_step": training_step}
    given["metrics"] = metrics
    if (file is None) == all(value is None for value in given.values()):
        raise StudyError("compare takes a file, or model=... and data=...: give one of the two")
    with named_task(file, given) as (name, names):
        task = find(name)
        folder = folder_of(name, out)
        check_writable(folder)
        check_own(folder)
        batch_size = batch_size or number_in(names, "batch_size", name) or BATCH_SIZE
        batch_size = own_batch_size(task) or batch_size
        rehearse(task, name, batch_size)
        asked = Size(
            rates=tuple(sorted(rates)),
            seeds=seeds,
            epochs=epochs or number_in(names, "epochs", name) or EPOCHS,
        )
        short = Path(name).stem
        options = (title or f"Which optimizer for {short}?", description_of(names))
        rest = (batch_size, weight_decay, (*CONTENDERS, *optimizers))

        def content(size: Size) -> dict[str, Any]:
            return named_errors(lambda: declare(name, *options, size, *rest))

        workers = 1 if name in IN_PROCESS else workers or cores()
        key = key_of(name, content(asked), budget, workers)
        path = folder / FILE
        if not is_same(path, key):
            size = asked
            if budget is not None:
                size = planned(content, asked, seconds_of(budget), workers, folder, say)
            write_text(path, to_toml(content(size), key))
        study = load_study(path)
        train(study, path, folder, workers, say)
        runs_table = write_results(str(path), study, Store(folder))
        _, epochs_table = collect(study, Store(folder))
        verdict = "\n".join(sentences(contest(runs_table)))
        return Comparison(verdict, runs_table, epochs_table, folder / "report.html")


@contextmanager
def named_task(
    file: str | Path | None, given: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give the name of the task, and what its file says. A task of objects lives in the block."""
    if file is not None:
        name = str(file)
        if name in TASKS:
            yield name, {}
            return
        if not name.endswith(".py"):
            raise StudyError(f"{name} is neither a .py file nor a task: see `hypergradient list`")
        if not Path(name).is_file():
            raise StudyError(f"there is no file {name}: write one like examples/compare_own_task.py")
        yield name, named_errors(lambda: vars(import_object(name)))
        return
    name = "own task"
    task = named_errors(lambda: read_task(given, "compare()"))
    IN_PROCESS[name] = InProcess(task, uuid.uuid4().hex)
    try:
        yield name, {}
    finally:
        del IN_PROCESS[name]


def named_errors(function: Callable[[], Any]) -> Any:
    """Return what a function returns; a ``ValueError`` of it is one for the person."""
    try:
        return function()
    except ValueError as error:
        raise StudyError(str(error)) from error


def find(name: str) -> Task:
    """Return the task."""
    task: Task = named_errors(lambda: find_task(name))
    return task


def folder_of(name: str, out: str | Path | None) -> Path:
    """Return where results go."""
    if out is not None:
        return Path(out)
    if name in IN_PROCESS:
        return Path(tempfile.mkdtemp(prefix="hypergradient-compare-"))
    return Path("results") / f"compare-{Path(name).stem}"


def number_in(names: Mapping[str, Any], key: str, place: str) -> int | None:
    """Return a count that a file says, or None."""
    value = names.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise StudyError(f"{place}: {key} = {value!r} is not a count: write `{key} = 10`")
    return value


def own_batch_size(task: Task) -> int | None:
    """Return the batch size of a person's ``DataLoader``, which makes the batches itself."""
    data = task.load()
    if isinstance(data, Batches) and isinstance(data.train, DataLoader):
        size = data.train.batch_size or getattr(data.train.batch_sampler, "batch_size", None)
        return int(size) if size else 1
    return None


def description_of(names: Mapping[str, Any]) -> str:
    """Return the first paragraph of a file's docstring."""
    return " ".join(inspect.cleandoc(names.get("__doc__") or "").split("\n\n")[0].split())


def key_of(name: str, content: Mapping[str, Any], budget: str | None, workers: int) -> str:
    """Return the first line of the study's file: what was asked for, so that it resumes as planned.

    A budget is measured once: measured again, it might give other runs.
    """
    own = source_hash(name) if name.endswith(".py") else ""
    asked = json.dumps([content, own, budget, workers if budget else None])
    return f"hypergradient compare {hashlib.sha256(asked.encode()).hexdigest()[:16]}"


def is_same(path: Path, key: str) -> bool:
    """Return whether a study's file is there that was written for the same question."""
    try:
        return path.read_text(encoding="utf-8").splitlines()[0] == f"# {key}"
    except (OSError, ValueError, IndexError):
        return False


def planned(
    content: Callable[[Size], dict[str, Any]],
    asked: Size,
    budget: float,
    workers: int,
    folder: Path,
    say: Callable[[str], None],
) -> Size:
    """Measure what a step of each method costs, and return what fits into the budget."""
    say("measuring a few steps of each optimizer")
    declared = content(asked)
    path = folder / f"{FILE}.measured.toml"
    write_text(path, to_toml(declared, "for measuring only"))
    try:
        runs = load_study(path).runs()
    finally:
        path.unlink()
    check_needs(runs, None)
    every = costs(runs, None)
    for cost in every:
        say(f"  {cost.method}: {cost.step_seconds * 1e3:.3g} ms a step")
    counts = {
        entry["names"][0]: None if entry["names"][0] == RIVAL else len(entry["grid"].get("lr", [0]))
        for entry in declared["methods"]
    }
    size = fit(budget, asked, {cost.method: cost for cost in every}, counts, workers)
    whole = in_words(duration(every, workers))
    if size == asked:
        say(f"all of {asked.text()} fits into {in_words(budget)}: about {whole}")
    else:
        say(f"of {asked.text()}, which takes {whole}, {size.text()} fits into {in_words(budget)}")
    return size


def train(
    study: Study, path: Path, folder: Path, workers: int, say: Callable[[str], None]
) -> None:
    """Train the runs that are missing."""
    store, runs = Store(folder), study.runs()
    missing = store.missing(runs)
    check_needs(missing, None)
    if not any(task in IN_PROCESS for task in study.tasks):
        remember(study, path, folder)
    done = len(runs) - len(missing)
    say(f"{len(runs)} runs, {done} of them done, in {folder}")
    with progress() as show:
        if any(task in IN_PROCESS for task in study.tasks):
            train_here(runs, store, show)
        else:
            execute(runs, store, workers=workers, report=show)


def train_here(runs: Sequence[Run], store: Store, report: Callable[[Progress], None]) -> None:
    """Train runs in this process, where objects that no file names can be used.

    A thread looks at what is written, and reports it.
    """
    missing, over = store.missing(runs), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            report(look(runs, missing, store))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work(missing, store, None)
    finally:
        over.set()
        watcher.join()
