# ruff: noqa: PLC0415  (imports are inside the commands, so that --help does not wait for torch)
"""The command ``hypergradient``: look at the studies, run one, get its tables and report."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from hypergradient.study import StudyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from hypergradient.study.execute import Progress
    from hypergradient.study.spec import Run, Study
    from hypergradient.study.store import Store


def stop(message: str, code: int = 2) -> NoReturn:
    """End the command with what is wrong, on stderr."""
    print(message, file=sys.stderr)
    sys.exit(code)


def stop_for_extra(missing: ModuleNotFoundError) -> NoReturn:
    stop(f"{missing.name} is not installed: pip install 'hypergradient[study]'")


try:
    import typer
except ModuleNotFoundError as error:
    stop_for_extra(error)

PLAIN_LINE_SECONDS = 10
INTERRUPTED = 130

app = typer.Typer(
    help="Train optimizers whose learning rate tunes itself beside the usual ones, and compare.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the data files. By default the one that HYPERGRADIENT_DATA_DIR names, "
        "else data are downloaded once into your cache.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the results. By default results/STUDY.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes to use. By default one a core.", show_default=False),
]


@app.command()
def demo(out: Out = None, workers: Workers = None) -> None:
    """Run the study "demo", on images that need no download, in about a minute."""
    run("demo", None, out, workers)


@app.command("list")
def list_studies() -> None:
    """List the studies that come with the package."""
    from hypergradient.study import spec

    for name, path in spec.built_in().items():
        print(f"{name:20} {spec.read_toml(path)['title']}")


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study's name, or the path of a .toml file.")],
    data_dir: DataDir = None,
    out: Out = None,
    workers: Workers = None,
) -> None:
    """Run a study and write its tables and report; finished runs are kept, not repeated."""
    from hypergradient.study import spec
    from hypergradient.study.execute import execute
    from hypergradient.study.store import Store

    path = spec.find(study)
    declared = spec.load(path)
    out = out or Path("results") / declared.name
    store = Store(out)
    check_writable(out)
    runs = declared.runs()
    missing = store.missing(runs)
    check_data(missing, data_dir)
    workers = workers or cores()
    print(f"{declared.name}: {len(runs)} runs, {len(runs) - len(missing)} of them done, in {out}")
    began = time.monotonic()
    try:
        with progress() as report:
            execute(runs, store, workers=workers, data_dir=data_dir, report=report)
    except KeyboardInterrupt:
        left = len(store.missing(runs))
        stop(f"interrupted with {left} runs to do: the same command resumes", INTERRUPTED)
    published = path.parent / declared.published if declared.published else None
    runs_table = write_results(declared, store, published)
    counts = dict(runs_table["status"].value_counts().sort("status").iter_rows())
    shown = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"{len(runs)} runs: {shown}; {time.monotonic() - began:.0f} s")
    print(f"report: {out / 'report.html'}")
    if counts.get("failed"):
        stop("\n".join(failures(store, runs)), 1)


def check_writable(out: Path) -> None:
    """Make the folder, or raise a ``StudyError`` if nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise StudyError(
            f"cannot write to {out}: {error.strerror}; choose another --out"
        ) from error


def check_data(missing: list[Run], data_dir: Path | None) -> None:
    """Read the data that the missing runs need, or raise a ``StudyError`` that says what is not."""
    from hypergradient.study import data
    from hypergradient.study.tasks import TASKS

    for dataset in sorted({TASKS[run.task].dataset for run in missing}):
        data.load(dataset, data_dir)
    data.load.cache_clear()


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_results(study: Study, store: Store, published: Path | None) -> pl.DataFrame:
    """Write the tables and the report, show the published numbers, and return ``runs``."""
    import polars as pl

    from hypergradient.study import analyse, statistics
    from hypergradient.study.report import write_report

    runs, epochs = analyse.tables(study, store)
    analyse.write_tables(runs, epochs, store.folder)
    theirs = pl.read_csv(published) if published else None
    if theirs is not None:
        show_beside_published(statistics.beside_published(runs, epochs, theirs))
    write_report(study, runs, epochs, store.folder, published=theirs)
    return runs


def show_beside_published(table: pl.DataFrame) -> None:
    """Print our losses, the published ones and their ratio, at the last epoch of both."""
    import polars as pl

    print(f"{'method':10} {'metric':12} epoch    ours  theirs  ratio")
    line = "{method:10} {metric:12} {epoch:5}  {ours:6.4f}  {theirs:6.4f}  {ratio:5.3f}"
    last = table.filter(pl.col("epoch") == pl.col("epoch").max())
    for row in last.iter_rows(named=True):
        print(line.format(**row))


def failures(store: Store, runs: list[Run]) -> Iterator[str]:
    """Yield a line for each run that failed."""
    for run in runs:
        status = store.status(run) or {}
        if status.get("state") == "failed":
            hyper = " ".join(f"{key}={value}" for key, value in run.hyper.items())
            folder = store.folder_of(run)
            name = f"{run.task} {run.method} {hyper} seed={run.seed}"
            yield f"failed: {name}: {status['error']} (see {folder / 'traceback.txt'})"


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Give a function that shows progress: a bar on a terminal, else a line now and then."""
    if not sys.stdout.isatty():
        yield plain_lines()
        return
    from rich import progress as rich

    columns = ("{task.description}", rich.BarColumn(), rich.TimeRemainingColumn(compact=True))
    with rich.Progress(*columns) as bar:
        task = bar.add_task("starting", total=None)

        def show(now: Progress) -> None:
            text = f"{now.finished}/{now.runs} runs"
            bar.update(task, description=text, total=now.epochs, completed=now.trained)

        yield show


def plain_lines() -> Callable[[Progress], None]:
    """Return a function that prints a line every ten seconds, with an estimate of the time left."""
    began = last = time.monotonic()
    first = None

    def show(now: Progress) -> None:
        nonlocal began, last, first
        first = now.trained if first is None else first
        clock = time.monotonic()
        if now.trained == first:  # the workers are starting, which says nothing of their speed
            began = clock
        elif clock - last >= PLAIN_LINE_SECONDS:
            last = clock
            left = (clock - began) * (now.epochs - now.trained) / (now.trained - first)
            print(f"{now.finished}/{now.runs} runs, about {left:.0f} s left", flush=True)

    return show


def main() -> None:
    """Run the command line; what the person can put right is said on stderr, with exit code 2."""
    try:
        app()
    except StudyError as error:
        stop(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hypergradient"):
            raise
        stop_for_extra(error)
