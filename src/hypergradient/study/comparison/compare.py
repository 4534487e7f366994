"""Compare optimizers on a person's own task, from the first look at it to the page."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergradient.study.commands import (
    check_own,
    default_workers,
    making,
    resolve,
    write_results,
)
from hypergradient.study.comparison.budget import Size
from hypergradient.study.comparison.declaration import CONTENDERS, RATES, WEIGHT_DECAY
from hypergradient.study.comparison.question import (
    Question,
    description_of,
    find,
    folder_of,
    named_task,
    number_in,
    own_batch_size,
)
from hypergradient.study.comparison.rehearsal import rehearse
from hypergradient.study.comparison.rounds import FILE, train_all
from hypergradient.study.errors import StudyError
from hypergradient.study.figures.compare import draw_compare
from hypergradient.study.log.services import service_named
from hypergradient.study.results.collect import collect
from hypergradient.study.results.compare import contest, sentences
from hypergradient.study.results.statistics import Statistics
from hypergradient.study.run.store import Store
from hypergradient.study.tasks.registry import IN_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl
    from matplotlib.figure import Figure

SEEDS, EPOCHS, BATCH_SIZE = 3, 10, 64


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
    live: bool = False,
    device: str = "cpu",
    log: str | None = None,
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
        device: Where to train: "cpu", "cuda", "mps", or "auto" for the accelerator if there is one.
        live: Whether to show the curves as they come, on a page of this machine.
        log: "tensorboard", "wandb" or "trackio", to log each run there when it has ended.

    Returns:
        The verdict, the runs, the page and a figure.

    Raises:
        StudyError: Something of the task is missing or does not work; said before any training.
    """
    given = {"model": model, "data": data, "loss": loss, "training_step": training_step}
    given["metrics"] = metrics
    if (file is None) == all(value is None for value in given.values()):
        raise StudyError("compare takes a file, or model=... and data=...: give one of the two")
    service = service_named(log)
    with named_task(file, given) as (name, names):
        task = find(name)
        folder = folder_of(name, out)
        batch_size = batch_size or number_in(names, "batch_size", name) or BATCH_SIZE
        place = resolve(device)
        epochs = epochs or number_in(names, "epochs", name) or EPOCHS
        question = Question(
            task=name,
            title=title or f"Which optimizer for {Path(name).stem}?",
            description=description_of(names),
            size=Size(tuple(sorted(rates)), seeds, epochs),
            batch_size=own_batch_size(task) or batch_size,
            weight_decay=weight_decay,
            contenders=(*CONTENDERS, *optimizers),
            budget=budget,
            workers=1 if name in IN_PROCESS else workers or default_workers(place),
            device=place,
        )
        with making(folder):
            check_own(folder)
            rehearse(task, name, question.batch_size, place)
        study = train_all(question, folder, say, live=live, log=service)
        runs = write_results(str(folder / FILE), study, Store(folder))
        verdict = "\n".join(sentences(contest(runs)))
        _, curves = collect(study, Store(folder))
        return Comparison(verdict, runs, curves, folder / "report.html")
