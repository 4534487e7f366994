"""Peak memory of an optimizer: its states, and the temporaries of a step.

States are counted tensor by tensor. On the CPU temporaries are how far a step pushes the peak of
this process's resident memory (Linux), on an accelerator the peak of torch's allocator.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hypergradient import SGDHD, AdamHD, AdamWHD

WIDTH, LAYERS = 1024, 16
NESTEROV = {"momentum": 0.9, "nesterov": True}
OPTIMIZERS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"fused": True}),
    "SGDHD": (SGDHD, {}),
    "SGD, momentum": (torch.optim.SGD, {"fused": True, "momentum": 0.9}),
    "SGDHD, momentum": (SGDHD, {"momentum": 0.9}),
    "SGD, Nesterov": (torch.optim.SGD, {"fused": True, **NESTEROV}),
    "SGDHD, Nesterov": (SGDHD, NESTEROV),
    "Adam": (torch.optim.Adam, {"fused": True}),
    "AdamHD": (AdamHD, {}),
    "AdamW": (torch.optim.AdamW, {"fused": True}),
    "AdamWHD": (AdamWHD, {}),
    "AdamHD, a rate an element": (AdamHD, {"granularity": "element"}),
}


def report(device: str) -> None:
    print("\nMemory, beside parameters and gradients:\n")
    print("| optimizer | states, bytes a parameter | temporaries of a step, kB |")
    print("|---|---|---|")
    for name, (kind, options) in OPTIMIZERS.items():
        states, temporaries = measure(kind, options, device)
        shown = "unknown" if temporaries is None else f"{temporaries / 1024:.0f}"
        print(f"| {name} | {states:.2f} | {shown} |", flush=True)


def measure(
    kind: type[Optimizer], options: dict[str, Any], device: str
) -> tuple[float, float | None]:
    """Bytes of states a parameter, and the most that one step holds for a while."""
    gc.collect()
    params = [nn.Parameter(torch.randn(WIDTH, WIDTH, device=device)) for _ in range(LAYERS)]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = kind(params, lr=1e-6, **options)  # type: ignore[call-arg]
    for _ in range(3):
        optimizer.step()
    tensors = [t for state in optimizer.state.values() for t in state.values()]
    states = sum(t.numel() * t.element_size() for t in tensors) / sum(p.numel() for p in params)
    return states, peak_of(optimizer.step, device)


def peak_of(step: Callable[[], Any], device: str) -> float | None:
    """The median of how far steps push the peak, in bytes."""
    peaks = []
    for _ in range(5):
        if device != "cpu":
            torch.accelerator.reset_peak_memory_stats()
            before = torch.accelerator.memory_allocated()
            step()
            peaks.append(float(torch.accelerator.max_memory_allocated() - before))
            continue
        try:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
        except OSError:
            return None
        before = resident("VmRSS")
        step()
        peaks.append(float(resident("VmHWM") - before))
    return sorted(peaks)[2]


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return 1024 * int(line.split()[1])
