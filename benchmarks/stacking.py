"""What stacking runs that share their batches gains: one by one against 1 to 32 at once.

    python benchmarks/stacking.py [--rounds 9]

Milliseconds of CPU time that a run's step takes on one thread, medians of interleaved rounds. The
steps are the study harness's own: batch, forward, backward, optimizer, logging. Data are random
numbers of the right shape.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hypergradient.study.declare.run import Run
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import TASKS
from hypergradient.study.train.ensemble import Ensemble
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import Training

MEMBERS = (1, 2, 4, 8, 16, 32)
METHODS = {"SGD-HD": 1e-4, "Adam-HD": 1e-8}


def runs_of(task: str, method: str, count: int) -> list[Run]:
    return [
        Run(
            task=task,
            method=method,
            schedule="hypergradient",
            hyper={"lr": 1e-3 * 0.9**i, "hypergrad_lr": METHODS[method]},
            seed=0,
            study_seed=0,
            epochs=1000,
            batch_size=128,
            weight_decay=1e-4,
        )
        for i in range(count)
    ]


def random_data(features: int) -> Data:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(6400, features)).astype(np.float32)
    y = generator.integers(0, 10, len(x))
    return Data(x, y, x[:128], y[:128])


def stepper(training: Any) -> Callable[[], None]:
    def step() -> None:
        if training.step_in_epoch == training.steps_per_epoch:
            training.begin_epoch(training.epoch + 1)
        training.make_step()

    return step


def timed(step: Callable[[], None], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        step()
    return (time.process_time() - began) / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread: CPU ms a run's step, and the gain\n")
    header = " | ".join(f"{n} stacked" for n in MEMBERS)
    print(f"| task | method | one by one | {header} |")
    print("|---" * (3 + len(MEMBERS)) + "|")
    for task in ("digits-logreg", "mnist-logreg", "digits-mlp", "mnist-mlp"):
        TASKS[task] = replace(TASKS[task], stacked=True)
        data = random_data(TASKS[task].arguments[0])
        for method in METHODS:
            one = runs_of(task, method, 1)[0]
            steps = [stepper(Training(one, initial_model(one), data))]
            most = [n for n in MEMBERS if task != "mnist-mlp" or n <= 8]
            steps += [stepper(Ensemble(runs_of(task, method, n), data)) for n in most]
            times = [max(1, round(0.03 / timed(step, 3))) for step in steps]
            samples: list[list[float]] = [[] for _ in steps]
            for _ in range(arguments.rounds):
                for step, count, sample in zip(steps, times, samples, strict=True):
                    sample.append(timed(step, count))
            alone, *stacked = samples
            cells = []
            for n, sample in zip(most, stacked, strict=True):
                gain = statistics.median(a * n / s for a, s in zip(alone, sample, strict=True))
                cells.append(f"{statistics.median(sample) / n * 1e3:.3f} ({gain:.1f}x)")
            cells += ["-"] * (len(MEMBERS) - len(most))
            head = f"{statistics.median(alone) * 1e3:.3f}"
            print(f"| {task} | {method} | {head} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
