# ruff: noqa: PLC0415  (imports are inside the commands, so that --help does not wait for torch)
"""The command ``hypergradient``: look at the studies, run one, get its tables and report."""

from __future__ import annotations

import atexit
import gc
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from hypergradient import __version__
from hypergradient.study.commands import (
    check_needs,
    check_own,
    check_writable,
    complain,
    declared_and_store,
    default_workers,
    known_and_store,
    live_page,
    loaded,
    making,
    published_numbers,
    say,
    stop,
    train,
    wait_for_interrupt,
    write_beside,
    write_results,
)
from hypergradient.study.errors import StudyError
from hypergradient.study.extras import install
from hypergradient.study.files import DISK_ERRORS, cannot_write
from hypergradient.study.log.services import check_installed

if TYPE_CHECKING:
    from hypergradient.study.declare.run import Run


def stop_for_extra(missing: ModuleNotFoundError) -> NoReturn:
    extra = "cluster" if missing.name in {"dask", "distributed"} else "study"
    stop(f"{missing.name} is not installed: {install(extra)}")


try:
    import typer

    from hypergradient.study import completion
    from hypergradient.study.comparison.command import Log, compare_command
except ModuleNotFoundError as error:
    stop_for_extra(error)


INTERRUPTED = 130

WATCH_SECONDS = 2

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

Scale = Annotated[
    str | None,
    typer.Option(
        help='"laptop" or "paper", where the study has scales. By default laptop.',
        show_default=False,
        autocompletion=completion.scales,
    ),
]

Name = Annotated[
    str,
    typer.Argument(
        help="A study's name, or the path of a .toml file.", autocompletion=completion.studies
    ),
]

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Processes to use. By default one a core.", show_default=False),
]

Device = Annotated[
    str | None,
    typer.Option(
        help='Where to train: "cpu", "cuda", "mps", or "auto" for an accelerator, where there is '
        "one. Runs on another device are other runs. By default what the study says: cpu.",
        show_default=False,
    ),
]

Live = Annotated[
    bool,
    typer.Option("--live", help="Show the curves as they come, on a page of this machine."),
]

Cluster = Annotated[
    str | None,
    typer.Option(
        help='Train on a dask cluster: "local" to start one here, or HOST:PORT or a scheduler file '
        "of one that runs. Results must be on a file system that its workers share.",
        show_default=False,
    ),
]


@app.callback(invoke_without_command=True)
def command(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Take the options that stand before a command."""
    if version:
        say(f"hypergradient {__version__}")
        raise typer.Exit


@app.command()
def demo(out: Out = None, workers: Workers = None) -> None:
    """Run the study "demo", on images that need no download, in about a minute."""
    run("demo", out=out, workers=workers)


@app.command("list")
def list_studies() -> None:
    """List the studies that come with the package: what each needs, its title and its scales."""
    from hypergradient.study.declare.load import built_in_studies, read_toml
    from hypergradient.study.declare.needs import needs

    for name, path in built_in_studies().items():
        content = read_toml(path)
        scales = ", ".join(content.get("scale", {}))
        wanted = ", ".join(needs(content)) or "-"
        say(f"{name:18} {wanted:28} {content['title']}{scales and f' ({scales})'}")


@app.command()
def plan(
    study: Name,
    scale: Scale = None,
    data_dir: DataDir = None,
    out: Out = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Say how many runs a study has, how many are done, and how long the others will take."""
    from hypergradient.study.run.plan import costs, duration, in_words
    from hypergradient.study.status import heading

    declared, store = loaded(study, scale, out, device)
    runs = declared.runs()
    missing = store.missing(runs)
    say(f"{heading(declared)}: {len(runs)} runs, {len(runs) - len(missing)} of them done")
    if not missing:
        return
    check_needs(missing, data_dir)
    every = costs(missing, data_dir)
    say(f"{'task':20} {'method':10} {'runs':>6} {'ms a step':>10}  a run")
    for cost in every:
        step = f"{cost.step_seconds * 1e3:.3g}"
        say(
            f"{cost.task:20} {cost.method:10} {cost.runs:6} {step:>10}  "
            f"{in_words(cost.run_seconds)}"
        )
    bound = "at most" if declared.until else "about"
    workers = workers or default_workers(declared.device)
    say(f"{bound} {in_words(duration(every, workers))} with {workers} processes")


@app.command()
def run(
    study: Name,
    scale: Scale = None,
    data_dir: DataDir = None,
    out: Out = None,
    device: Device = None,
    workers: Workers = None,
    cluster: Cluster = None,
    live: Live = False,
    log: Log = None,
) -> None:
    """Run a study and write its tables and report; finished runs are kept, not repeated."""
    from hypergradient.study.declare.load import find_study
    from hypergradient.study.declare.remembered import remember
    from hypergradient.study.log.logger import logging
    from hypergradient.study.status import failures, heading

    declared, store = known_and_store(study, scale, out, device)
    if declared is None:
        declared, store = loaded(study, scale, out, device)
    runs = declared.runs()
    with making(store.folder):
        check_own(store.folder)
        missing = store.missing(runs)
        check_needs(missing, data_dir)
        check_installed(log)
        published_numbers(study, declared)  # or training would end with an error, hours from now
    remember(declared, find_study(study), store.folder)
    workers = workers or default_workers(declared.device)
    done = len(runs) - len(missing)
    say(f"{heading(declared)}: {len(runs)} runs, {done} of them done, in {store.folder}")
    began = time.monotonic()
    try:
        with logging(runs, store, log, say, complain) as look:
            if missing:
                with live_page(declared, store, wanted=live):
                    train(runs, store, workers, data_dir, cluster, look)
    except KeyboardInterrupt:
        left = len(store.missing(runs))
        stop(f"interrupted with {left} runs to do: the same command resumes", INTERRUPTED)
    runs_table = write_results(study, declared, store)
    counts = dict(runs_table["status"].value_counts().sort("status").iter_rows())
    shown = ", ".join(f"{count} {status}" for status, count in counts.items())
    say(f"{len(runs)} runs: {shown}; {time.monotonic() - began:.0f} s")
    say(f"report: {store.folder / 'report.html'}")
    if counts.get("failed"):
        stop("\n".join(failures(store, runs)), 1)


@app.command()
def status(
    study: Name,
    scale: Scale = None,
    out: Out = None,
    device: Device = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again every two seconds, until all are finished.")
    ] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Show the curves on a page of this machine, until Ctrl-C."),
    ] = False,
) -> None:
    """Say how far a study is: in this or any other process."""
    from hypergradient.study.status import state_of

    if serve:
        shown, store = known_and_store(study, scale, out, device)
        with live_page(shown or declared_and_store(study, scale, out, device)[0], store):
            wait_for_interrupt()
        return
    while True:
        declared, store = known_and_store(study, scale, out, device)
        if declared is None:
            plan = f"hypergradient plan {study} counts the runs to do"
            conditions, lines = {"": "to do"}, [f"nothing was run in {store.folder}: {plan}"]
        else:
            runs = declared.runs()
            conditions = store.conditions(runs)
            lines = list(state_of(declared, store, runs, conditions))
        if watch and sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        say("\n".join(lines))
        if not watch or not {"to do", "training"} & set(conditions.values()):
            return
        time.sleep(WATCH_SECONDS)


@app.command()
def report(
    study: Name,
    scale: Scale = None,
    out: Out = None,
    device: Device = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            help="Another results folder, of another version or other settings: writes one page "
            "that compares the two.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a study's tables and report anew from the results there are."""
    declared, store = loaded(study, scale, out, device)
    check_own(store.folder)
    if not store.begun():
        raise StudyError(f"nothing was run in {store.folder}: hypergradient run {study} runs it")
    check_writable(store.folder)
    if beside is not None:
        say(f"beside: {write_beside(declared, store, beside)}")
        return
    runs = write_results(study, declared, store, anew=True)
    say(f"{len(runs)} of {len(declared.runs())} runs are in {store.folder / 'report.html'}")


@app.command()
def clean(
    study: Name,
    scale: Scale = None,
    out: Out = None,
    device: Device = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete what runs that failed, were damaged or are unfinished have left; none that is done."""
    declared, store = known_and_store(study, scale, out, device)
    kinds: dict[str, list[tuple[Run, list[Path]]]] = {}
    for one in declared.runs() if declared else ():
        for kind, files in store.leftovers(one).items():
            kinds.setdefault(kind, []).append((one, files))
    for kind, found in sorted(kinds.items()):
        every = [path for _, files in found for path in files]
        size = sum(path.lstat().st_size for path in every) / 1e6
        say(f"{kind}: {len(found)} runs, {len(every)} files, {size:.1f} MB")
    if not kinds:
        say(f"nothing to delete in {store.folder}")
    elif yes or typer.confirm("Delete these files?"):
        for found in kinds.values():
            for one, files in found:
                for folder in store.remove(one, files):
                    say(f"{folder} is a folder where a file should be: move the folder away")


app.command("compare")(compare_command)


@app.command()
def landscape(
    functions: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names such as beale or rosenbrock, or module:function for your own of two "
            "tensors, x and y. By default beale.",
            show_default=False,
            autocompletion=completion.functions,
        ),
    ] = None,
    methods: Annotated[
        str,
        typer.Option(
            help='Also "gd+ global" and its like: one rate for both coordinates.',
            autocompletion=completion.descents,
        ),
    ] = "gd,gd+,gdm,gdm+,nag,nag+,adam,adam+",
    steps: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="The most steps to take.")
    ] = 12_000,
    search: Annotated[
        bool, typer.Option("--search", help="Search the settings for beale too.")
    ] = False,
    start: Annotated[tuple[float, float] | None, typer.Option(metavar="X Y")] = None,
    box: Annotated[
        tuple[float, float, float, float] | None, typer.Option(metavar="LEFT RIGHT BOTTOM TOP")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page and the figures.")] = Path(
        "results/landscape"
    ),
) -> None:
    """Watch optimizers descend functions of two variables, each rate moved by hypergradients."""
    from hypergradient.study.landscape.lab import visit

    with making(out):
        page = visit(functions or ["beale"], methods, steps, search, start, box, out, say)
    say(f"page: {page}")


def skip_last_collection() -> None:
    """Keep the interpreter, as it ends, from looking through all of torch for half a second.

    With Triton loaded, which torch imports where it is installed, this would not do: what is then
    never collected is reported on stderr as leaked by its bindings.
    """
    if "triton" not in sys.modules:
        gc.freeze()


def main() -> None:
    """Run the command line; what the person can put right is said on stderr, with exit code 2."""
    atexit.register(skip_last_collection)
    try:
        app()
    except StudyError as error:
        stop(str(error))
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        stop(str(cannot_write(Path(error.filename or "the results"), error.errno)))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("hypergradient"):
            raise
        stop_for_extra(error)
