"""How cost grows: runs from 10 to 10,000, parameters from a thousand to 100 million.

    python benchmarks/growth.py [--most-runs 10000] [--most-parameters 1e8]

The runs are synthetic: nobody trained them. Their numbers are made up here, written by the store
itself into a folder that is deleted afterwards, and serve to time what reads them: the commands
`plan` where no run is there (half a second of it measures steps) and `status` where all are, then
`collect`, the tables, and `report`, the page and its figures, whose sum is the command `report`.
Steps are timed as in `peers.py`.
"""

import argparse
import contextlib
import gc
import io
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from contenders import CONTENDERS
from peers import measure, models
from recording import FOLDER, Recording

from hypergradient.study import cli
from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import Run
from hypergradient.study.declare.study import Study
from hypergradient.study.report.page import write_report
from hypergradient.study.results.collect import collect
from hypergradient.study.results.write import write_tables
from hypergradient.study.run.claim import append
from hypergradient.study.run.store import Store
from hypergradient.study.train.records import EpochRecord

EPOCHS = 10
RATES = [float(f"1e{power}") for power in range(-9, 1)]
PAIRS = {"SGD": "SGDHD", "Adam": "AdamHD"}

STUDY = """
title = "Synthetic runs"
description = "Nobody trained these runs: their numbers are made up to time what reads them."
tasks = ["digits-logreg"]
seeds = {seeds}
epochs = 10
batch_size = 128
[[methods]]
names = "SGD-HD"
grid = {{ lr = {rates}, hypergrad_lr = {betas} }}
"""


def write_study(runs: int, folder: Path) -> Path:
    """Declare a study of 10, 100, 1000, ... runs."""
    path = folder / "synthetic.toml"
    betas, seeds = (RATES if runs >= 100 else [1e-4]), list(range(math.ceil(runs / 100)))
    path.write_text(STUDY.format(rates=RATES, betas=betas, seeds=seeds), encoding="utf-8")
    return path


def make_up(run: Run, store: Store) -> None:
    """Write a run's results as training would, with numbers that nobody measured."""
    lr = float(run.hyper["lr"])
    with store.claim(run) as claim:
        if claim is None:
            return
        with claim.metrics() as metrics:
            for epoch in range(EPOCHS + 1):
                loss = 2.3 * math.exp(-epoch * lr) + 0.01 * (run.seed % 7)
                append(metrics, record_of(epoch, loss, lr))
        claim.finish(
            {
                "state": "done",
                "diverged_at_step": None,
                "steps_to_target": None,
                "records": EPOCHS + 1,
                "wall_seconds": 1.0,
                "init_hash": "synthetic",
                "torch": "synthetic",
                "python": "synthetic",
                "platform": "synthetic",
                "threads": 1,
            }
        )


def record_of(epoch: int, loss: float, lr: float) -> EpochRecord:
    return EpochRecord(
        epoch=epoch,
        step=12 * epoch,
        train_loss=loss,
        train_accuracy=math.exp(-loss),
        valid_loss=1.1 * loss,
        valid_accuracy=math.exp(-1.1 * loss),
        lr_mean=lr,
        lr_min=lr,
        lr_max=lr,
        seconds=0.1,
        diverged_at_step=None,
    )


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the median seconds of three times, or of fewer if they are long, and the result."""
    samples, result = [], None
    while not samples or (len(samples) < 3 and sum(samples) < 2):
        gc.collect()
        began = time.perf_counter()
        result = work()
        samples.append(time.perf_counter() - began)
    return statistics.median(samples), result


def output(command: Callable[..., None], **options: Any) -> tuple[float, str]:
    """Return the seconds of a command of the command line, and what it prints."""

    def run() -> str:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            command(**options)
        return printed.getvalue()

    return seconds(run)


def harness(count: int) -> dict[str, float]:
    """Return the seconds of each of the harness's commands on that many runs."""
    with tempfile.TemporaryDirectory() as name:
        path = write_study(count, Path(name))
        study, store = load_study(path), Store(Path(name) / "results")
        options = {"study": str(path), "out": store.folder}
        plan, printed = output(cli.plan, **options)
        if f"{count} runs, 0 of them done" not in printed:
            raise RuntimeError(printed)
        with mock.patch("os.fsync"):  # what made-up numbers do not need
            for run in study.runs():
                make_up(run, store)
        status, printed = output(cli.status, **options)
        if f"{count} done" not in printed:
            raise RuntimeError(printed)
        collect, tables = seconds(lambda: collected(study, store))
        report, _ = seconds(lambda: write_report(study, *tables, store.folder))
    return {"plan": plan, "status": status, "collect": collect, "report": report}


def collected(study: Study, store: Store) -> Any:
    tables = collect(study, store)
    write_tables(*tables, store.folder)
    return tables


def steps(parameters: int, rounds: int) -> dict[str, Any]:
    """Return, for each kind, the medians of torch's fused step and of ours."""
    rows = {}
    for kind, ours in PAIRS.items():
        names = ("torch fused", ours)
        pair = [c for c in CONTENDERS if c.kind == kind and c.name in names]
        rows[kind] = measure(pair, models(parameters)["large"], rounds)
        gc.collect()
    return rows


def powers(first: float, most: float) -> list[int]:
    return [int(10**power) for power in range(round(math.log10(first)), 20) if 10**power <= most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most-runs", type=float, default=1e4)
    parser.add_argument("--most-parameters", type=float, default=1e8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    recording = Recording("growth", chosen.folder, threads=chosen.threads, rounds=chosen.rounds)
    for count in powers(10, chosen.most_runs):
        recording.measure(f"runs {count}", lambda count=count: harness(count))
    for count in powers(1e3, chosen.most_parameters):
        recording.measure(f"parameters {count}", lambda count=count: steps(count, chosen.rounds))


if __name__ == "__main__":
    main()
