"""What a step costs on a GPU by the Triton kernels, beside torch's own, interleaved, as JSON.

    python benchmarks/gpu_step.py [--device cuda] [--folder DIR] [--tiny] [--sweep]

For each optimizer: our kernels, torch's fused and foreach steps, and this package's optimizer (the
lane that it takes). A sample is the time between two CUDA events around some steps; contenders take
turns, and the number is the median of the rounds. Bytes are those that the exact algorithm must
move; their share of the bandwidth is relative to that of a large copy, measured in the same run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_contenders import (
    PAIRS,
    Pair,
    Shapes,
    Step,
    by_kernels,
    by_package,
    by_torch,
    count,
    gpt2_small,
    parameters,
    small,
    tiny,
)
from recording import FOLDER, Recording

from hypergradient.engine.gpu.tables import Tuning

TUNINGS = (
    *(Tuning(), Tuning(1024, 4), Tuning(512, 4), Tuning(2048, 8), Tuning(2048, 16)),
    *(Tuning(stages=2), Tuning(stages=3), Tuning(1024, 4, stages=3), Tuning(2048, 8, stages=2)),
    *(Tuning(parts=1024), Tuning(parts=16384)),
)
SWEPT = ("momentum", "adam", "untuned")


class Clock:
    """Milliseconds of work on a device."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"

    def time(self, step: Step, times: int) -> float:
        """Milliseconds a step, of so many after each other."""
        if not self.on_gpu:
            began = time.perf_counter()
            for _ in range(times):
                step()
            return (time.perf_counter() - began) * 1e3 / times
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(times):
            step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / times

    def medians(self, steps: dict[str, Step], rounds: int, times: int) -> dict[str, Any]:
        """The median of each, and the middle half of its samples; they take turns."""
        samples: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                samples[name].append(self.time(step, times))
        return {name: quartiles(each) for name, each in samples.items()}


def quartiles(samples: list[float]) -> dict[str, float]:
    if len(samples) == 1:
        return dict.fromkeys(("low", "ms", "high"), samples[0])
    low, middle, high = statistics.quantiles(samples, n=4)
    return {"low": low, "ms": middle, "high": high}


def bandwidth(device: str, clock: Clock, elements: int) -> dict[str, float]:
    """Bytes a second of a copy, read and written."""
    source = torch.randn(elements, device=device)
    target = torch.empty_like(source)
    clock.time(lambda: target.copy_(source), 3)
    ms = statistics.median(clock.time(lambda: target.copy_(source), 5) for _ in range(9))
    return {"bytes": 8 * elements, "GB/s": 8 * elements / ms / 1e6}


def contenders(pair: Pair, shapes: Shapes, device: str, package: bool) -> dict[str, Step]:
    """The steps, warmed up; each contender has parameters and states of its own."""
    steps = {"kernels": by_kernels(pair, parameters(shapes, device, pair.dtype))}
    for name, fused in (("fused", True), ("foreach", False)):
        steps[name] = by_torch(pair, parameters(shapes, device, torch.float32), fused=fused)
    if package and pair.dtype is torch.float32:
        steps["package"] = by_package(pair, parameters(shapes, device, pair.dtype))
    for step in steps.values():
        for _ in range(3):
            step()
    return steps


def captured(step: Step) -> Step:
    """A step as a CUDA graph, after some warm-up on another stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def launches(step: Step) -> dict[str, int]:
    """How often each kernel is launched in a step, as the profiler saw it."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    events = [e for e in profile.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [e for e in events if not e.name.startswith(("Memcpy", "Memset"))]
    return {"kernels": len(kernels), "copies": len(events) - len(kernels)}


def memory(step: Step) -> int:
    """The most bytes that a step holds beside what was there before."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated()) - before


def host(step: Step, times: int) -> float:
    """Microseconds until a step's launches have left the host."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - began) * 1e6 / times


def tried(measure: Callable[[], Any]) -> Any:
    """What is measured, or why it could not be: one contender must not end the run."""
    try:
        return measure()
    except Exception as reason:  # noqa: BLE001 - anything that another's code may raise
        return {"failed": f"{type(reason).__name__}: {reason}"[:300]}


class Table:
    """Rows of one model."""

    def __init__(self, recording: Recording, device: str, rounds: int, times: int) -> None:
        self.recording, self.device, self.clock = recording, device, Clock(device)
        self.rounds, self.times = rounds, times

    def row(self, pair: Pair, shapes: Shapes, speed: float) -> dict[str, Any]:
        big = count(shapes) > 10_000_000
        steps = contenders(pair, shapes, self.device, package=self.device == "cuda")
        row: dict[str, Any] = {"bytes": pair.bytes, "elements": count(shapes)}
        times = self.times if big else 10 * self.times
        row["step"] = self.clock.medians(steps, self.rounds, times if self.on_gpu else 1)
        ours = row["step"]["kernels"]["ms"]
        row["over fused"] = ours / row["step"]["fused"]["ms"]
        row["over foreach"] = ours / row["step"]["foreach"]["ms"]
        row["share of copy"] = pair.bytes[0] * count(shapes) / ours / 1e6 / speed
        share = pair.bytes[1] * count(shapes) / row["step"]["fused"]["ms"] / 1e6 / speed
        row["share of copy, fused"] = share
        if self.on_gpu:
            row["host us"] = {name: host(step, 10) for name, step in steps.items()}
            row["memory"] = {name: memory(step) for name, step in steps.items()}
            row["launches"] = {n: tried(partial(launches, step)) for n, step in steps.items()}
            graphs = {n: tried(partial(captured, s)) for n, s in steps.items()}
            row["graph failed"] = {n: g["failed"] for n, g in graphs.items() if isinstance(g, dict)}
            replays = {n: g for n, g in graphs.items() if not isinstance(g, dict)}
            row["graph"] = self.clock.medians(replays, self.rounds, times)
        return row

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def sweep(self, kind: str, shapes: Shapes) -> dict[str, Any]:
        """The same step, with work cut in other ways."""
        pair = next(pair for pair in PAIRS if pair.kind == kind)
        params = parameters(shapes, self.device, torch.float32)
        steps = {cut(tuning): by_kernels(pair, params, tuning) for tuning in TUNINGS}
        for step in steps.values():
            step()
            step()
        return self.clock.medians(steps, self.rounds, self.times if self.on_gpu else 1)


def cut(tuning: Tuning) -> str:
    return ", ".join(f"{name} {value}" for name, value in tuning._asdict().items())


def shown(name: str, row: dict[str, Any]) -> str:
    step, graph, cells = row["step"], row.get("graph", {}), []
    for ours in ("package", "kernels"):
        for times in (step, graph):
            both = ours in times and "fused" in times
            cells.append(f"{times[ours]['ms'] / times['fused']['ms']:.2f}" if both else "-")
    cells.append(f"{row['bytes'][0] / row['bytes'][1]:.2f}")
    mine = "package" if "package" in step else "kernels"
    cells += [f"{step[mine]['ms']:.3f}", f"{step[mine]['ms'] / step['foreach']['ms']:.2f}"]
    cells += [f"{row['share of copy']:.0%}", f"{row['share of copy, fused']:.0%}"]
    launched = row.get("launches", {}).get(mine, {})
    cells += [str(launched.get("kernels", "-")), str(row.get("memory", {}).get(mine, "-"))]
    hosts = row.get("host us", {})
    cells.append(
        "/".join(f"{hosts[each]:.0f}" for each in (mine, "kernels", "fused")) if hosts else "-"
    )
    return f"| {name} | {' | '.join(cells)} |"


HEAD = (
    "| optimizer | / fused | captured | kernels / fused | captured | bytes, / fused | ms "
    "| / foreach | kernels' share of copy | fused's | launches | bytes held "
    "| host us: ours/kernels/fused |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--tiny", action="store_true", help="for a test of this program")
    parser.add_argument("--sweep", action="store_true", help="also other ways to cut the work")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    device, began = arguments.device, time.perf_counter()
    if device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "torch finds no GPU here: nothing was measured\n")
    card = torch.cuda.get_device_name() if device == "cuda" else "the interpreter"
    recording = Recording("gpu_step", arguments.folder, card=card, tiny=arguments.tiny)
    table = Table(recording, device, 1 if arguments.tiny else arguments.rounds, 5)
    size = 1000 if arguments.tiny else 2**28
    copy = recording.measure("copy", lambda: bandwidth(device, table.clock, size))
    full = {"GPT-2 small": gpt2_small(), "small": small()}
    models = {"tiny": tiny()} if arguments.tiny else full
    print(f"{card}, torch {torch.__version__}; a copy moves {copy['GB/s']:.0f} GB/s")
    for model, shapes in models.items():
        print(f"\n{model}: {count(shapes) / 1e6:.1f}M in {len(shapes)} tensors\n{HEAD}")
        print("|---" * 13 + "|", flush=True)
        for pair in PAIRS:
            key = f"{model}: {pair.name}"
            row = recording.measure(
                key, lambda p=pair, s=shapes: tried(lambda: table.row(p, s, copy["GB/s"]))
            )
            print(row["failed"] if "failed" in row else shown(pair.name, row), flush=True)
            if device == "cuda":
                torch.cuda.empty_cache()
    if arguments.sweep:
        shapes = next(iter(models.values()))
        for kind in SWEPT:
            found = recording.measure(f"sweep: {kind}", partial(table.sweep, kind, shapes))
            best = sorted(found, key=lambda tuning: found[tuning]["ms"])
            print(kind, *(f"{tuning}: {found[tuning]['ms']:.3f} ms" for tuning in best), sep="\n  ")
    print(f"\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
