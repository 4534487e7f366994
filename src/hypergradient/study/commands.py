# ruff: noqa: PLC0415  (imports are inside the functions, so that --help does not wait for torch)
"""What the commands of ``cli`` have in common: what they say, check, find and write."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hypergradient import __version__
from hypergradient.study.errors import StudyError, as_one_line, one_line, printable
from hypergradient.study.files import as_file_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from hypergradient.study.declare.fields import DeviceName
    from hypergradient.study.declare.run import Run
    from hypergradient.study.declare.study import Study
    from hypergradient.study.run.execute import Progress
    from hypergradient.study.run.store import Store


def say(text: str) -> None:
    """Print lines for a person, with nothing in them that a terminal would obey."""
    print(printable(text), flush=True)


def complain(problem: str) -> None:
    """Print a problem on stderr."""
    print(printable(problem), file=sys.stderr)


def stop(message: str, code: int = 2) -> NoReturn:
    """End the command with what is wrong, on stderr."""
    complain(message)
    sys.exit(code)


def declared_and_store(
    study: str, scale: str | None, out: Path | None, device: str | None = None
) -> tuple[Study, Store]:
    """Return the study at a scale, and where its results are: results/STUDY-SCALE by default."""
    from hypergradient.study.declare.load import find_study, load_study
    from hypergradient.study.run.store import Store

    declared = load_study(find_study(study), scale)
    check_name(out)
    if device is not None:
        declared = declared.on(resolve(device))
    return declared, Store(out or default_folder(declared.name, declared.scale, declared.device))


def loaded(
    study: str, scale: str | None, out: Path | None, device: str | None
) -> tuple[Study, Store]:
    """Do what ``declared_and_store`` does, and say so first: torch takes seconds to import."""
    say("loading torch and the study")
    return declared_and_store(study, scale, out, device)


def known_and_store(
    study: str, scale: str | None, out: Path | None, device: str | None = None
) -> tuple[Study | None, Store]:
    """Return the study as the last ``run`` kept it, which imports no Python that it names.

    It is None if nothing was ever run. If the study has changed since, it is read anew.
    """
    from hypergradient.study.declare.load import default_scale, find_study, is_plain, read_toml
    from hypergradient.study.declare.remembered import recall
    from hypergradient.study.run.store import Store

    path = find_study(study)
    scale = default_scale(path) if scale is None else scale
    check_name(out)
    if not is_plain(path.stem) or (scale is not None and not is_plain(scale)):
        return declared_and_store(study, scale, out, device)  # which says so
    device = read_toml(path).get("device", "cpu") if device is None else resolve(device)
    store = Store(out or default_folder(path.stem, scale, str(device)))
    if not store.begun():
        return None, store
    kept = recall(path, scale, store.folder)
    if kept is None or kept.device != device:
        return declared_and_store(study, scale, out, device)
    return kept, store


def default_folder(name: str, scale: str | None, device: str) -> Path:
    """Return where the results of a study are, if nobody says otherwise."""
    return Path("results") / "-".join(
        filter(None, [name, scale, device if device != "cpu" else ""])
    )


def resolve(device: str) -> DeviceName:
    """Return the device that a person means, as ``train.devices`` says; "cpu" at once."""
    from hypergradient.study.train import devices

    return "cpu" if device == "cpu" else devices.resolve(device)


def check_name(out: Path | None) -> None:
    """Raise a ``StudyError`` if there can be no folder of that name."""
    wrong: str | None = None
    try:
        if out is not None and "\0" in str(out):
            wrong = "a name cannot have a NUL in it"
        elif out is not None:
            out.exists()
    except OSError as error:
        wrong = error.strerror
    if wrong:
        raise StudyError(f"cannot use {one_line(str(out))}: {wrong}; choose another --out")


def check_writable(out: Path) -> None:
    """Make the folder, or raise a ``StudyError`` if nothing can be written there."""
    check_name(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out, buffering=0) as probe:
            probe.write(b"x")  # a full disk may still take a name
    except OSError as error:
        raise StudyError(
            f"cannot write to {out}: {error.strerror}; choose another --out"
        ) from error


@contextmanager
def making(out: Path) -> Iterator[None]:
    """Make a folder, and take it away again if nothing is in it when the block ends by an error."""
    check_name(out)
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        check_writable(out)
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # it is in use
                folder.rmdir()
        raise


def check_own(out: Path) -> None:
    """Raise a ``StudyError`` if tables would replace files that no study has written."""
    from hypergradient.study.results.write import foreign_files

    if foreign := foreign_files(out):
        raise StudyError(f"{foreign[0]} is none of a study's results: choose another --out")


def check_needs(missing: list[Run], data_dir: Path | None) -> None:
    """Raise a ``StudyError`` that says what the missing runs need and is not there."""
    from hypergradient.study.methods.registry import find_method
    from hypergradient.study.tasks.data.load import load_data
    from hypergradient.study.tasks.registry import find_task

    for method in dict.fromkeys(run.method for run in missing):
        if lacking := find_method(method).lacking():
            raise StudyError(lacking)

    for task in dict.fromkeys(run.task for run in missing):
        find_task(task).load(data_dir)
    load_data.cache_clear()


def train(
    runs: list[Run],
    store: Store,
    workers: int,
    data_dir: Path | None,
    cluster: str | None,
    look: Callable[[], None],
) -> None:
    """Train the runs that are missing, show how far they are, and call ``look`` now and then."""
    from hypergradient.study.run.execute import execute
    from hypergradient.study.run.progress import progress

    with progress() as show:

        def report(now: Progress) -> None:
            show(now)
            look()

        execute(runs, store, workers=workers, data_dir=data_dir, cluster=cluster, report=report)


def default_workers(device: str) -> int:
    """Return how many processes train where nobody says it: one a core, or one on an accelerator.

    To use several GPUs, start the same command once for each, with ``CUDA_VISIBLE_DEVICES``.
    """
    return cores() if device == "cpu" else 1


@contextmanager
def live_page(study: Study, store: Store, port: int = 0, *, wanted: bool = True) -> Iterator[int]:
    """Serve a page that shows a study's curves while the block runs, and say where it is.

    Args:
        study: The study.
        store: Its results, which are only read.
        port: The port; 0 is any that is free.
        wanted: Whether to do anything.
    """
    if not wanted:
        yield port
        return
    from hypergradient.study.live.server import served

    with served(study, store, port) as address:
        say(f"live: {address}")
        yield int(address.rstrip("/").rpartition(":")[2])


def wait_for_interrupt() -> None:
    """Return when a person presses Ctrl-C."""
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_results(name: str, study: Study, store: Store, *, anew: bool = False) -> pl.DataFrame:
    """Write the tables and the report, show the published numbers, and return ``runs``.

    A report that was made of the same tables stays as it is, unless ``anew`` asks for another.
    """
    import polars as pl

    from hypergradient.study.results import published
    from hypergradient.study.results.collect import collect
    from hypergradient.study.results.write import is_drawn, note_drawn, write_tables

    runs, epochs = collect(study, store)
    write_tables(runs, epochs, store.folder)
    theirs = published_numbers(name, study)
    if theirs is not None and "epoch" in theirs.columns:
        try:
            show_beside_published(published.beside_published(runs, epochs, theirs))
        except pl.exceptions.PolarsError as error:
            complain(f"no published numbers beside ours: {as_one_line(error)}")
    of = _source_of_report(study, theirs)
    if anew or not is_drawn(store.folder, of):
        from hypergradient.study.report.page import write_report

        say("writing the report")
        problems: list[str] = []
        write_report(study, runs, epochs, store.folder, published=theirs, tell=problems.append)
        for problem in problems:
            complain(problem)
        if not problems:
            note_drawn(store.folder, of)
    return runs


def write_beside(study: Study, store: Store, other: Path) -> Path:
    """Write one page that sets a study's results beside those in another folder.

    Raises:
        StudyError: The other folder has no tables, or nothing that can be compared.
    """
    from hypergradient.study.report.page import write_report
    from hypergradient.study.results.beside import Tables, beside, names_of, read_tables
    from hypergradient.study.results.collect import collect

    names = names_of(store.folder, other)
    there = read_tables(other)
    both = beside(Tables(*collect(study, store)), there, names)
    shown = study.model_copy(update={"figures": ("beside",)})
    name = f"beside-{as_file_name(names[1])}.html"
    return write_report(shown, *both, store.folder, name=name, tell=complain)


def _source_of_report(study: Study, published: pl.DataFrame | None) -> str:
    """Return what a report follows from, beside the tables."""
    theirs = "" if published is None else published.write_csv()
    return f"{__version__}\n{study.model_dump_json()}\n{theirs}"


def published_numbers(name: str, study: Study) -> pl.DataFrame | None:
    """Return the published numbers that a study is set beside, if it has any."""
    from hypergradient.study.declare.load import find_study
    from hypergradient.study.results.published import read_published

    return read_published(find_study(name).parent / study.published) if study.published else None


def show_beside_published(table: pl.DataFrame) -> None:
    """Print our losses, the published ones and their ratio, at the last epoch of both."""
    import polars as pl

    say(f"{'method':10} {'metric':12} epoch    ours  theirs  ratio")
    line = "{method:10} {metric:12} {epoch:5}  {ours:6.4f}  {theirs:6.4f}  {ratio:5.3f}"
    last = table.filter(pl.col("epoch") == pl.col("epoch").max())
    for row in last.iter_rows(named=True):
        say(line.format(**row))
