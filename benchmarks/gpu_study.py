"""The network of the ICLR study at paper scale on a GPU, as one stack of runs, as JSON.

    python benchmarks/gpu_study.py [--device cuda] [--folder DIR] [--tiny]
                                   [--data-dir DIR] [--seconds N]

Two hidden layers of 1000 units, all of MNIST, 200 epochs of batches of 128; SGD with momentum at
constant rates and by hypergradients, with settings of the study's own grids. First the steps of
stacks of several sizes are timed. Then the largest stack that makes all epochs in so many seconds
is trained by the harness; where none does, the smallest makes as many epochs as fit. An interrupted
training goes on at its last checkpoint. Without --data-dir the examples are made up.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from gpu_step import Clock, tried
from recording import FOLDER, Recording

from hypergradient.study.declare.load import built_in_studies, load_study
from hypergradient.study.declare.run import Run
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.start import start_session

TASKS = Path(__file__).with_name("gpu_stack.py")
SIZES, TINY_SIZES = (2, 4, 8, 12, 16, 18), (2, 4)  # the grid of constant rates has 9
METHODS = ("SGDN", "SGDN-HD")
CHECKPOINT = 10.0  # seconds


def settings(size: int) -> list[tuple[str, dict[str, Any]]]:
    """Return methods and hyperparameters that lie evenly in the study's grids at paper scale."""
    runs = load_study(built_in_studies()["iclr-curves"], "paper").runs()
    chosen: list[tuple[str, dict[str, Any]]] = []
    for method, count in zip(METHODS, (size // 2, size - size // 2), strict=True):
        of_method = [
            run.hyper
            for run in runs
            if run.method == method
            and run.task == "mnist-mlp"
            and run.seed == 0
            and run.schedule != "lr-decay"
        ]
        chosen += [(method, of_method[i * len(of_method) // count]) for i in range(count)]
    return chosen


def runs_of(task: str, device: Any, size: int, epochs: int, batch: int) -> list[Run]:
    """Return so many runs of one seed, which share their batches."""
    return [
        Run(
            task=f"{TASKS}:{task}",
            method=method,
            hyper=hyper,
            seed=0,
            study_seed=0,
            epochs=epochs,
            batch_size=batch,
            weight_decay=1e-4,
            device=device,
        )
        for method, hyper in settings(size)
    ]


def time_of_step(runs: list[Run], folder: Path | None, device: str, times: int) -> dict[str, float]:
    """Return the milliseconds of a stack's step by the harness, and the steps of an epoch."""
    session = start_session(runs, find_task(runs[0].task).load(folder))
    steps = iter(range(session.steps_per_epoch))

    def step() -> None:
        next(steps)
        session.make_step()

    clock = Clock(device)
    clock.time(step, times)
    ms = min(clock.time(step, times) for _ in range(3))
    return {"ms": ms, "steps": session.steps_per_epoch}


def plan(times: dict[int, dict[str, float]], epochs: int, seconds: float) -> tuple[int, int]:
    """Return the size of the stack to train, and its epochs."""
    for_all = {n: epochs * row["steps"] * row["ms"] / 1e3 for n, row in times.items()}
    fitting = [n for n in times if for_all[n] <= seconds]
    if fitting:
        return max(fitting), epochs
    least = min(times)
    return least, max(int(epochs * seconds / for_all[least]), 1)


def train(runs: list[Run], store: Store, folder: Path | None) -> dict[str, Any]:
    """Train a stack, and return what its runs ended with."""
    began = time.perf_counter()
    execute(runs, store, workers=1, data_dir=folder, checkpoint_seconds=CHECKPOINT)
    names = ("epoch", "train_loss", "valid_loss", "valid_accuracy", "lr_mean")
    last = [store.records(run)[-1] for run in runs]
    return {
        "seconds of this process": time.perf_counter() - began,
        "runs": [
            {"method": run.method, **run.hyper, **{name: record[name] for name in names}}
            for run, record in zip(runs, last, strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--data-dir", type=Path, help="where the files of MNIST are")
    parser.add_argument("--seconds", type=float, default=100.0, help="for the training")
    parser.add_argument("--tiny", action="store_true", help="for a test of this program")
    arguments = parser.parse_args()
    device, tiny, folder = arguments.device, arguments.tiny, arguments.data_dir
    card = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    task = "tiny" if tiny else "generated" if folder is None else "mnist"
    epochs, batch = (3, 32) if tiny else (200, 128)
    recording = Recording(
        "gpu_study", arguments.folder, card=card, tiny=tiny, data=task, seconds=arguments.seconds
    )
    times: dict[int, dict[str, float]] = {}
    for size in TINY_SIZES if tiny else SIZES:
        runs = runs_of(task, device, size, epochs, batch)
        row = recording.measure(
            f"a stack of {size}",
            lambda r=runs: tried(lambda: time_of_step(r, folder, device, 2 if tiny else 20)),
        )
        print(f"a stack of {size:2}: {row.get('failed') or format(row['ms'], '.3f') + ' ms'}")
        if "failed" not in row:
            times[size] = row
    size, epochs = plan(times, epochs, arguments.seconds)
    runs = runs_of(task, device, size, epochs, batch)
    store = Store(Path("results") / f"gpu_study_{task}_{device}")
    row = recording.measure(
        f"{size} runs of {epochs} epochs", lambda: tried(lambda: train(runs, store, folder))
    )
    if "failed" in row:
        print(row["failed"])
        return
    print(f"\n{size} runs of {epochs} epochs on {card}, examples: {task}")
    for run in row["runs"]:
        own = ", ".join(f"{name} {run[name]:g}" for name in ("lr", "hypergrad_lr") if name in run)
        losses = [run["train_loss"], run["valid_loss"]]
        shown = " ".join("-" if loss is None else f"{loss:.4f}" for loss in losses)
        print(f"{run['method']:8} {own:32} {shown} {run['valid_accuracy']:.2%}", flush=True)


if __name__ == "__main__":
    main()
