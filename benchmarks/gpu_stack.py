"""The tasks of gpu_study.py, whose runs are trained as stacks; workers find them by this file."""

from pathlib import Path

import numpy as np

from hypergradient.study import Data, Task

LAYERS = (784, 1000, 1000, 10)
CLASSES, NOISE = 10, 2.0


def made_up(features: int, train: int, valid: int) -> Data:
    """Return examples of ten classes, which overlap: for times where MNIST is not at hand."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(CLASSES, features))
    y = generator.integers(0, CLASSES, train + valid)
    noise = NOISE * features**0.5 / 4 * generator.normal(size=(train + valid, features))
    x = (centres[y] + noise).astype(np.float32)
    return Data(x[:train], y[:train], x[train:], y[train:])


def of_the_size_of_mnist(_: Path | None) -> Data:
    return made_up(LAYERS[0], 60_000, 10_000)


def of_little_size(_: Path | None) -> Data:
    return made_up(16, 256, 64)


def mnist() -> Task:
    return Task("mnist", "mlp", LAYERS, stacked=True)


def generated() -> Task:
    return Task(of_the_size_of_mnist, "mlp", LAYERS, stacked=True)


def tiny() -> Task:
    return Task(of_little_size, "mlp", (16, 8, 8, 10), stacked=True)
