"""How studies scale on a dask cluster, what its scheduler costs a run, and what 10,000 runs cost.

    python benchmarks/cluster.py [--most 10000]

Prints the numbers and writes docs/figures/cluster.{pdf,png,csv}. All workers, the scheduler and the
command share this machine's cores: runs that train scale as far as there are cores, runs that only
wait show what the scheduling allows.
"""

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import polars as pl

from hypergradient.study import cli
from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import Run
from hypergradient.study.declare.study import Study
from hypergradient.study.figures.style import (
    ADAPTIVE,
    CONSTANT,
    FAINT,
    PAGE,
    STYLE,
    blank,
    rate_colours,
    save,
)
from hypergradient.study.results.collect import collect
from hypergradient.study.results.write import write_tables
from hypergradient.study.run import dask_pool
from hypergradient.study.run.claim import append
from hypergradient.study.run.dask_pool import LOCAL
from hypergradient.study.run.dask_worker import WorkOrder
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store
from hypergradient.study.train.records import EpochRecord

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
WORKERS = (1, 2, 4)
WAIT_SECONDS = 0.5
STUDY = """
title = "Many"
tasks = ["digits-logreg"]
seeds = {seeds}
epochs = {epochs}
batch_size = 64
[[methods]]
names = "SGD"
grid = {{ lr = {rates}, momentum = [0.0, 0.5] }}
"""


def study_of(runs: int, folder: Path, epochs: int = 2) -> Study:
    """Logistic regressions on digits, 20 for each seed."""
    path = folder / f"many{runs}.toml"
    rates = [round(10 ** (-3 + i / 5), 6) for i in range(10)]
    path.write_text(STUDY.format(seeds=[*range(runs // 20)], epochs=epochs, rates=rates))
    return load_study(path)


def be_trivial(runs: list[Run], order: WorkOrder, seconds: float = 0.0) -> None:
    """Stand in for training: wait, and leave what a run leaves."""
    for run in runs:
        with order.store.claim(run) as claim:
            if claim is None:
                continue
            time.sleep(seconds)
            with claim.metrics() as metrics:
                for epoch in range(3):
                    append(metrics, EpochRecord(epoch, epoch, *[0.5] * 8, None))
            claim.finish({"state": "done", "records": 3, "torch": order.torch})


def be_waiting(runs: list[Run], order: WorkOrder) -> None:
    be_trivial(runs, order, WAIT_SECONDS)


@contextmanager
def instead_of_training(task: Callable[..., None] | None) -> Iterator[None]:
    kept = dask_pool.train_in_process
    dask_pool.train_in_process = task or kept
    try:
        yield
    finally:
        dask_pool.train_in_process = kept


def throughput(
    workers: int, runs: list[Run], store: Store, task: Callable[..., None] | None
) -> float:
    """Runs a second, from when all workers are at it to the last run."""
    with instead_of_training(task):
        execute(runs, store, workers=workers, cluster=LOCAL)
    ends = sorted((store.folder_of(run) / "status.json").stat().st_mtime for run in runs)
    started = 2 * workers
    return (len(ends) - started) / (ends[-1] - ends[started - 1])


def scaling(folder: Path) -> list[dict[str, Any]]:
    rows = []
    kinds = {
        "runs that train": (study_of(40, folder, epochs=20), None),
        "runs that wait 0.5 s": (study_of(60, folder), be_waiting),
    }
    print("| runs | workers | runs a second | / 1 worker |\n|---|---|---|---|")
    for kind, (study, task) in kinds.items():
        for workers in WORKERS:
            store = Store(folder / f"{kind}{workers}")
            rate = throughput(workers, study.runs(), store, task)
            rows.append({"kind": kind, "workers": workers, "rate": rate})
            relative = rate / rows[-1 - WORKERS.index(workers)]["rate"]
            print(f"| {kind} | {workers} | {rate:.2f} | {relative:.2f} |", flush=True)
    return rows


def phases(runs: int, folder: Path) -> list[dict[str, Any]]:
    """CPU seconds of this process, where the scheduler is too, in each part of a study's life."""
    rows = []

    def timed(name: str, act: Callable[[], Any]) -> Any:
        began, cpu = time.perf_counter(), time.process_time()
        result = act()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"runs": runs, "phase": name, "cpu_seconds": cpu, "peak_mb": peak})
        each = cpu / runs * 1e3
        print(
            f"| {runs} | {name} | {cpu:.2f} | {each:.2f} | {seconds:.1f} | {peak:.0f} |", flush=True
        )
        return result

    study, store = study_of(runs, folder), Store(folder / f"many{runs}")
    every = timed("expand the study", study.runs)
    timed("find what is missing", lambda: store.missing(every))
    with instead_of_training(be_trivial):
        timed(
            "hand out and take back (dask)",
            lambda: execute(every, store, workers=2, cluster=LOCAL),
        )
    timed("find that nothing is", lambda: store.missing(every))
    timed("status", lambda: list(cli.state_of(study, store, every, store.conditions(every))))
    tables = timed("collect the tables", lambda: collect(study, store))
    timed("write the tables", lambda: write_tables(*tables, store.folder))
    shutil.rmtree(store.folder)
    return rows


def draw(rates: pl.DataFrame, costs: pl.DataFrame) -> None:
    """Draw what `main` measured; the larger study's costs are in the order of the legend."""
    with mpl.rc_context(STYLE):
        figure = blank((PAGE, 2.1))
        left, right = figure.subplots(1, 2)
        for (kind,), part in rates.group_by("kind", maintain_order=True):
            colour = ADAPTIVE if "wait" in str(kind) else CONSTANT
            relative = part["rate"] / part["rate"][0]
            left.plot(part["workers"], relative, "o-", ms=2.4, color=colour, label=str(kind))
        left.plot(WORKERS, WORKERS, ":", color=FAINT, lw=0.8, label="as many times as workers")
        left.set_xticks(WORKERS)
        left.set_xlabel(f"dask workers ({len(os.sched_getaffinity(0))} cores)")
        left.set_ylabel("runs a second / one worker's")
        left.legend(fontsize=6, loc="upper left")
        left.set_ylim(0.8, 5.6)
        most = costs.filter(pl.col("runs") == pl.col("runs").max()).sort("cpu_seconds")
        phases = most["phase"].to_list()[::-1]
        for phase, shade in zip(phases, rate_colours(len(phases)), strict=True):
            part = costs.filter(phase=phase)
            right.loglog(part["runs"], part["cpu_seconds"], "o-", ms=2.4, color=shade, label=phase)
        right.set_xlabel("runs of the study")
        right.set_ylabel("CPU seconds")
        right.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(figure, pl.concat([rates, costs], how="diagonal"), FIGURES, "cluster")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=10_000, help="runs of the largest study")
    arguments = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108  (so that the disk is not what is measured)
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        rates = scaling(Path(name))
        print("\n| runs | part | CPU s | CPU ms a run | s | peak MB |\n|---|---|---|---|---|---|")
        costs = [
            row
            for runs in (arguments.most // 10, arguments.most // 3 // 20 * 20, arguments.most)
            for row in phases(runs, Path(name))
        ]
    draw(pl.DataFrame(rates), pl.DataFrame(costs))


if __name__ == "__main__":
    main()
