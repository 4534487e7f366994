"""Small language models on the CPU: `Untuned` beside tuned AdamW and optimizers without a rate.

    python benchmarks/language_models.py [--model headers] [--steps 500 1500] [--seeds 2]
                                         [--methods NAME ...] [--picture FILE]

Nothing about `Untuned` was chosen on the models "headers", whose text is the C++ headers that
come with torch, and "topics", on the pages of Python's `help()`. It was chosen on "library", on
Python's standard library, and others like it. A tenth of the text is for validation. Each step
takes fresh random windows, the same for all optimizers, and all start from the same weights. AdamW
has betas (0.9, 0.95) or (0.9, 0.999), a warm-up of 5% and a cosine to zero. Everything else is at
its defaults, from its authors' packages. Validation losses are of the average where an optimizer
keeps one.
"""

import argparse
import importlib
import math
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_language_model import warm_up_and_cosine
from gpu_models import GPT, Size, loss_of
from language_picture import picture
from recording import FOLDER, Recording, read
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from hypergradient import Untuned
from hypergradient.study.methods import ablations

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
HELD_BACK = 10  # a text's first tenth, as its files are in random order
MOST = 6_000_000  # bytes of a text
CHECKS = 32  # batches of a validation
POINTS = 24  # validations in a training
ABLATIONS = (
    *("FullRise", "NoRise", "FiftySteps", "AllSteps", "OneStep", "NoAverage", "NotBounded"),
    *("NoEarlyFall", "TenOverT", "TwoOverT", "FiftyAtFirst", "EqualWeights"),
)


@dataclass(frozen=True)
class Model:
    """A language model: the folder of its text, the files, its shape and its batch size."""

    folder: Callable[[], Path]
    pattern: str
    size: Size
    batch: int


MODELS = {
    "headers": Model(
        lambda: Path(torch.__file__).parent / "include" / "torch" / "csrc",
        "**/*.h",
        Size(256, 48, 3, 4, 80),
        12,
    ),
    "topics": Model(
        lambda: Path(sysconfig.get_paths()["stdlib"]) / "pydoc_data",
        "topics.py",
        Size(256, 32, 4, 4, 64),
        16,
    ),
    "library": Model(
        lambda: Path(sysconfig.get_paths()["stdlib"]), "*.py", Size(256, 64, 2, 2, 64), 8
    ),
    "tiny": Model(
        lambda: Path(sysconfig.get_paths()["stdlib"]), "a*.py", Size(256, 16, 1, 2, 16), 2
    ),
}


def text(model: Model) -> tuple[Tensor, Tensor]:
    """Return the bytes to train on, and those to validate on, as 1-D int64 tensors."""
    files = sorted(model.folder().glob(model.pattern))
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    whole = b"\n".join(files[i].read_bytes() for i in order)[:MOST]
    numbers = torch.frombuffer(bytearray(whole), dtype=torch.uint8).long()
    held = len(numbers) // HELD_BACK
    return numbers[held:], numbers[:held]


def windows(data: Tensor, model: Model, generator: torch.Generator) -> Tensor:
    """Return random windows of the text, (batch, context + 1)."""
    context = model.size.context
    at = torch.randint(len(data) - context - 1, (model.batch, 1), generator=generator)
    return data[at + torch.arange(context + 1)]


def adamw(rate: float, beta2: float, params: Any, steps: int) -> tuple[Any, Any]:
    """Return AdamW and its schedule."""
    optimizer = torch.optim.AdamW(params, rate, (0.9, beta2), weight_decay=0.0, fused=True)
    return optimizer, LambdaLR(optimizer, warm_up_and_cosine(steps))


def scheduled(params: Any, steps: int) -> tuple[Any, Any]:
    """Return `Untuned` with the schedule of AdamW, as a factor on the rate that it learns."""
    optimizer = Untuned(params)
    return optimizer, LambdaLR(optimizer, warm_up_and_cosine(steps))


def package(name: str, params: Any, _: int) -> tuple[Any, Any]:
    """Return another author's optimizer at its defaults; `name` is module:class."""
    module, _, cls = name.partition(":")
    return getattr(importlib.import_module(module), cls)(params), None


def ablation(name: str, params: Any, _: int) -> tuple[Any, Any]:
    """Return `Untuned` with a part taken away or changed."""
    return getattr(ablations, name)(params), None


METHODS: dict[str, Callable[[Any, int], tuple[Any, Any]]] = {
    "Untuned": lambda params, _: (Untuned(params), None),
    "Untuned, cosine": scheduled,
    "Untuned, adafactor": lambda params, _: (Untuned(params, base="adafactor"), None),
    **{
        f"AdamW {rate:g}, beta2 {beta2:g}": partial(adamw, rate, beta2)
        for beta2 in (0.999, 0.95)
        for rate in RATES
    },
    "AdamW 0.001, constant": lambda params, _: (
        torch.optim.AdamW(params, 1e-3, weight_decay=0.0, fused=True),
        None,
    ),
    **{f"Untuned, {name}": partial(ablation, name) for name in ABLATIONS},
    "ProdigyPlus": partial(package, "prodigyplus:ProdigyPlusScheduleFree"),
    "Schedule-Free": partial(package, "schedulefree:AdamWScheduleFree"),
}

RIVALS = [name for name in METHODS if not name.startswith("Untuned,")]


def train(
    make: Callable[[Any, int], tuple[Any, Any]], model: Model, steps: int, seed: int
) -> dict[str, Any]:
    """Train one model, and return its validation losses and rates with their steps."""
    torch.manual_seed(seed)
    network = GPT(model.size)
    optimizer, schedule = make(network.parameters(), steps)
    set_mode(optimizer, "train")
    data, held = text(model)
    batches, checks = (torch.Generator().manual_seed(s) for s in (seed + 100, 99))
    check = [windows(held, model, checks) for _ in range(CHECKS)]
    row: dict[str, Any] = {"step": [], "validation loss": [], "rate": [], "seconds": []}
    began = time.perf_counter()
    marks = {round(steps ** (0.3 + 0.7 * i / POINTS)) for i in range(1, POINTS + 1)}
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        rate = float(optimizer.param_groups[0]["lr"])
        loss_of(network, windows(data, model, batches)).backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        if step in marks:
            row["step"].append(step)
            row["rate"].append(rate * float(optimizer.param_groups[0].get("d", 1.0)))
            loss = validation(network, optimizer, check)
            row["validation loss"].append(loss if math.isfinite(loss) else None)
            row["seconds"].append(round(time.perf_counter() - began, 1))
    return row


@torch.no_grad()
def validation(network: GPT, optimizer: Any, check: list[Tensor]) -> float:
    """Return the loss on text held back, of the average where the optimizer keeps one."""
    set_mode(optimizer, "eval")
    losses = [loss_of(network, each) for each in check]
    set_mode(optimizer, "train")
    return float(torch.stack(losses).mean())


def set_mode(optimizer: Any, mode: str) -> None:
    """Call `train` or `eval` of an optimizer that has them."""
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="headers", choices=MODELS)
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 1500])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=RIVALS, choices=METHODS)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--picture", type=Path, help="draw what there is of the longest training")
    arguments = parser.parse_args()
    if arguments.picture:
        parts = {name: read(f"language_models_{name}", arguments.folder) for name in MODELS}
        rows = {name: part["rows"] for name, part in parts.items() if part}
        picture(rows, arguments.steps[-1]).savefig(arguments.picture, dpi=200)
        return
    torch.set_num_threads(1)
    recording = Recording(f"language_models_{arguments.model}", arguments.folder)
    for seed in range(arguments.seeds):
        for steps in arguments.steps:
            for name in arguments.methods:
                run = partial(train, METHODS[name], MODELS[arguments.model], steps, seed)
                row = recording.measure(f"{name}, {steps} steps, seed {seed}", run)
                print(name, steps, seed, row["validation loss"][-1], row["rate"], flush=True)


if __name__ == "__main__":
    main()
