"""What the harness costs beside forward, backward and step; and how long a person waits.

    python benchmarks/overhead.py [--rounds 5] [--data-dir DIR]

The same minibatches are trained on by loops that do ever more: `compute` (forward, backward and
step on one batch), `bare` (the epoch's order, and a new batch each step, as in any training loop),
`steps` (the harness's step, with its losses, answers and rates), `epoch` (an epoch of a whole run
of `EPOCHS`: its claim, model, order, evaluations and records, into the store). They take turns; a
share is the median over the turns. Then the command line: its help, the import of each half, and
the demo from the command to the report.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from recording import FOLDER, Recording
from throughput import timed
from torch.nn.functional import cross_entropy

from hypergradient.study.declare.run import Run
from hypergradient.study.run.claim import append
from hypergradient.study.run.store import Store
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.batches import epoch_order
from hypergradient.study.train.evaluate import evaluate
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import Training, train

MODELS = {"logistic regression": ("mnist-logreg", 60_000), "MLP 2x1000": ("mnist-mlp", 6_000)}
"""The task of each, and how many training images make its epoch."""

EPOCHS = 10
"""Of the run whose every part is counted, as in the shortest of the papers'."""

STARTS = {
    "hypergradient --help": "import sys; sys.argv[1:] = ['--help']; "
    "from hypergradient.study.cli import main; main()",
    "import hypergradient.study.cli": "import hypergradient.study.cli",
    "import hypergradient": "import hypergradient",
    "import torch": "import torch",
}


def run_of(task: str, examples: int, method: str) -> Run:
    return Run(
        task=task,
        method=method,
        schedule="hypergradient",
        hyper={"lr": 1e-3, "hypergrad_lr": 1e-4},
        seed=0,
        study_seed=0,
        epochs=EPOCHS,
        batch_size=128,
        weight_decay=1e-4,
        train_examples=examples,
        valid_examples=examples // 6,  # MNIST's own proportion
    )


def bare(run: Run, data: Data, *, renew: bool = True) -> float:
    """Return the seconds of an epoch that does no more than train, on new minibatches or on one."""
    training = Training(run, initial_model(run), data)
    model, optimizer = training.model.train(), training.optimizer
    first = training.batches[0]
    x, y = training.train_x[first], training.train_y[first]
    began = time.perf_counter()
    order = epoch_order(run, len(training.train_x), 1)
    for chosen in order.split(run.batch_size):
        if renew:
            x = training.train_x.index_select(0, chosen)
            y = training.train_y.index_select(0, chosen)
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return time.perf_counter() - began


def steps(run: Run, data: Data) -> float:
    """Return the seconds of the harness's own steps."""
    training = Training(run, initial_model(run), data)
    training.model.train()
    began = time.perf_counter()
    for _ in range(training.steps_per_epoch):
        training.make_step()
    return time.perf_counter() - began


def epoch(run: Run, data: Data) -> float:
    """Return the seconds an epoch of a whole run, from the claim to the finished record."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with Store(Path(folder)).claim(run) as claim:
            if claim is None:
                raise RuntimeError("a claim on an empty store was refused")
            with claim.metrics() as metrics:
                for record in train(run, initial_model(run), data):
                    append(metrics, record)
            claim.finish({"state": "done", "records": EPOCHS + 1})
        return (time.perf_counter() - began) / EPOCHS


def evaluations(run: Run, data: Data) -> float:
    """Return the seconds an epoch of a run's evaluations: before training, and after each epoch."""
    training = Training(run, initial_model(run), data)
    began = time.perf_counter()
    for _ in range(EPOCHS + 1):
        evaluate(training.model, training.valid_x, training.valid_y)
    return (time.perf_counter() - began) / EPOCHS


def ladder(task: str, examples: int, rounds: int, data_dir: Path | None) -> dict[str, Any]:
    """Return each loop's median seconds an epoch, and medians of the rounds' shares."""
    torch.set_num_threads(1)
    run = run_of(task, examples, "SGD-HD")
    data = find_task(task).load(data_dir)
    every = {
        "compute": partial(bare, renew=False),
        "bare": bare,
        "steps": steps,
        "epoch": epoch,
        "evaluations": evaluations,
    }
    for loop in every.values():
        loop(run, data)  # the first reserves memory
    samples = [{name: loop(run, data) for name, loop in every.items()} for _ in range(rounds)]

    def median(share: Callable[[dict[str, float]], float]) -> float:
        return statistics.median(map(share, samples))

    return {
        "examples": examples,
        "seconds": {name: median(lambda s, name=name: s[name]) for name in every},
        "bookkeeping": median(lambda s: (s["epoch"] - s["bare"] - s["evaluations"]) / s["epoch"]),
        "batches": median(lambda s: (s["bare"] - s["compute"]) / s["epoch"]),
        "evaluations": median(lambda s: s["evaluations"] / s["epoch"]),
        "over_bare": median(lambda s: s["epoch"] / s["bare"] - 1),
    }


def start(code: str, times: int) -> dict[str, Any]:
    """Return the median seconds of a fresh interpreter that runs some code."""
    samples = []
    for _ in range(times):
        seconds, failure = timed([sys.executable, "-c", code])
        if failure:
            return {"cannot_run": failure}
        samples.append(seconds)
    return {"seconds": statistics.median(samples)}


def demo() -> dict[str, Any]:
    """Return the seconds of the demo, from the command's start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        code = "from hypergradient.study.cli import main; main()"
        command = [sys.executable, "-c", code, "demo", "--out", str(Path(folder) / "demo")]
        seconds, failure = timed(command)
    return {"cannot_run": failure} if failure else {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the training images")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--without-demo", action="store_true")
    chosen = parser.parse_args()
    settings = {"rounds": chosen.rounds, "share": chosen.share}
    recording = Recording("overhead", chosen.folder, **settings)
    for model, (task, examples) in MODELS.items():
        few = max(128, int(chosen.share * examples))
        recording.measure(
            model,
            lambda task=task, few=few: ladder(task, few, chosen.rounds, chosen.data_dir),
        )
    for name, code in STARTS.items():
        recording.measure(name, lambda code=code: start(code, chosen.rounds))
    if not chosen.without_demo:
        recording.measure("hypergradient demo", demo)


if __name__ == "__main__":
    main()
