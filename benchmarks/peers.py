"""What a step costs, ours and everything a user could take instead, interleaved in one run.

    python benchmarks/peers.py [--parameters 25.9e6] [--threads 2] [--rounds 11]

In each round every optimizer of a kind makes its step once (on small models as often as fills some
milliseconds), on parameters and constant gradients of its own; a row is the median over the rounds
and the median of the rounds' ratios to torch's fused step. gdtuo, which has no step to itself, is a
whole training step minus one without an optimizer, of the same round.
"""

import argparse
import contextlib
import gc
import io
import os
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler only counts bytes here

import torch
from contenders import CONTENDERS, Contender, Parameters, Step, add, plain
from recording import FOLDER, Recording
from torch import nn
from torch.profiler import ProfilerActivity, profile

FILL_SECONDS = 0.01
SMALL_ROUNDS = 3  # times as many rounds on small models, whose steps take no time
ADD, PLAIN = "in-place add", "no optimizer"

Shapes = list[tuple[int, ...]]


def models(parameters: int) -> dict[str, Shapes]:
    """Shapes of three models: two where launching operations rules, one where bytes do."""
    width = round((parameters / 31) ** 0.5)
    return {
        "logistic regression": [(10, 784), (10,)],
        "MLP 64-100-100-10": [(100, 64), (100,), (100, 100), (100,), (10, 100), (10,)],
        "large": [(width, width), (width,)] * 31,
    }


def fresh(shapes: Shapes) -> Parameters:
    """Return small parameters with gradients, the same for everybody."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(0.01 * torch.randn(shape)) for shape in shapes]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return parameters


def quietly(make: Callable[[Parameters], Step], parameters: Parameters) -> Step:
    """Return the step; some optimizers print their options."""
    with contextlib.redirect_stdout(io.StringIO()):
        return make(parameters)


def timed(step: Step, times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) / times


def peak_bytes(contender: Contender | None, shapes: Shapes) -> int:
    """Return the most bytes that building it and three steps hold beside p and g."""
    parameters = fresh(shapes)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step = quietly(contender.make if contender else plain, parameters)
        for _ in range(3):
            step()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def measure(contenders: Sequence[Contender], shapes: Shapes, rounds: int) -> dict[str, Any]:
    """Measure contenders in turn, the first of which is the unit.

    Returns:
        For each name seconds, ratio and its quartiles, and how many in-place adds it takes, or
        why it cannot run; and the add's own seconds.
    """
    rows: dict[str, Any] = {}
    steps: dict[str, Step] = {}
    for contender in contenders:
        if contender.missing:
            rows[contender.name] = {"cannot_run": contender.missing}
            continue
        try:
            step = quietly(contender.make, fresh(shapes))
            timed(step, 2)
        except Exception as error:  # noqa: BLE001  (any peer may fail, and its row says why)
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
            rows[contender.name] = {"cannot_run": reason}
        else:
            steps[contender.name] = step
    whole = [c.name for c in contenders if c.whole and c.name in steps]
    for name, make in {ADD: add, **({PLAIN: plain} if whole else {})}.items():
        steps[name] = make(fresh(shapes))
        timed(steps[name], 2)
    times = {name: max(1, round(FILL_SECONDS / timed(step, 3))) for name, step in steps.items()}
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            samples[name].append(timed(step, times[name]))
    for name in whole:
        pairs = zip(samples[name], samples[PLAIN], strict=True)
        samples[name] = [all_of_it - without for all_of_it, without in pairs]
    for name in samples.keys() - {ADD, PLAIN}:
        ratios = divided(samples[name], samples[contenders[0].name])
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[name] = {
            "seconds": statistics.median(samples[name]),
            "ratio": middle,
            "ratio_low": low,
            "ratio_high": high,
            "adds": statistics.median(divided(samples[name], samples[ADD])),
        }
    add_row = {ADD: {"seconds": statistics.median(samples[ADD])}}
    return {contender.name: rows[contender.name] for contender in contenders} | add_row


def divided(ours: list[float], theirs: list[float]) -> list[float]:
    return [own / other for own, other in zip(ours, theirs, strict=True)]


def memory(contenders: Sequence[Contender], shapes: Shapes) -> dict[str, float]:
    """Return each one's peak bytes a parameter beside p and g, of those that can run."""
    count = sum(torch.Size(shape).numel() for shape in shapes)
    without = peak_bytes(None, shapes) if any(c.whole for c in contenders) else 0
    peaks = {}
    for contender in contenders:
        with contextlib.suppress(Exception):  # its row says why it cannot run
            peak = peak_bytes(contender, shapes) - (without if contender.whole else 0)
            peaks[contender.name] = peak / count
        gc.collect()
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, default=25.9e6)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sizes = {"parameters": int(arguments.parameters), "threads": arguments.threads}
    recording = Recording("peers", arguments.folder, **sizes, rounds=arguments.rounds)
    shapes = models(sizes["parameters"])
    for model, its_shapes in shapes.items():
        rounds = arguments.rounds * (1 if model == "large" else SMALL_ROUNDS)
        for kind in dict.fromkeys(c.kind for c in CONTENDERS):
            of_kind = [c for c in CONTENDERS if c.kind == kind]
            recording.measure(
                f"{model}: {kind}",
                lambda who=of_kind, its=its_shapes, rounds=rounds: measure(who, its, rounds),
            )
            gc.collect()
    for kind in dict.fromkeys(c.kind for c in CONTENDERS):
        of_kind = [c for c in CONTENDERS if c.kind == kind]
        recording.measure(f"memory: {kind}", lambda who=of_kind: memory(who, shapes["large"]))


if __name__ == "__main__":
    main()
