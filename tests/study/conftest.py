"""A small study on real data, as its author would write it."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from forking import fork_server
from hypergradient.study import cli
from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.study import Study
from hypergradient.study.figures import style
from hypergradient.study.run import dask_worker, local_pool
from hypergradient.study.tasks.data.load import ENVIRONMENT_VARIABLE, load_data

SMALL = """
title = "Small"
tasks = ["digits-logreg"]
seeds = [0, 1]
epochs = {epochs}
batch_size = 256
weight_decay = 1e-4

[[methods]]
names = ["SGD", "Adam"]
grid = {{ lr = [1e-3, 1e-2] }}

[[methods]]
names = "SGD-HD"
grid = {{ lr = 1e-3, hypergrad_lr = [0.0, 1e-3] }}
"""


@pytest.fixture(scope="module", autouse=True)
def coarse_pictures() -> Iterator[None]:
    """Write PNG files of few dots, and PDF files without subsets of TrueType fonts.

    That is half of the time of a report. Tests of `figures` see them as people get them.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DOTS", 20)
        patch.setitem(style.STYLE, "pdf.fonttype", 3)
        yield


@pytest.fixture(scope="module", autouse=True)
def forked_workers() -> Iterator[None]:
    """Fork the workers that this process starts, which is 3 s less each than to spawn them.

    Those of the commands that tests start are spawned.
    """
    forking = SimpleNamespace(**{**vars(multiprocessing), "get_context": lambda _: fork_server()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_pool, "multiprocessing", forking)
        patch.setattr(dask_worker, "multiprocessing", forking)
        yield


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str = SMALL, epochs: int = 2) -> Path:
        path = tmp_path / "small.toml"
        path.write_text(text.format(epochs=epochs), encoding="utf-8")
        return path

    return write


@pytest.fixture
def small(study_file: Callable[..., Path]) -> Study:
    return load_study(study_file())


@pytest.fixture
def no_page(monkeypatch):
    """Have commands write no report, which takes longer than to train a small study."""
    monkeypatch.setattr("hypergradient.study.report.page.write_report", lambda *_, **__: None)


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Call the command line in this process; give its exit code, output and complaint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    load_data.cache_clear()

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["hypergradient", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        return end.value.code or 0, shown.out, shown.err

    return call
