"""The device that a run is trained on: its name, its random numbers, and when it is done.

Data, models, states and metrics lie on the device of their run. Initial weights, the order of
batches and augmentation are drawn on the CPU, so that they are the same on all devices.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from hypergradient.study.errors import StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from hypergradient.study.declare.fields import DeviceName
    from hypergradient.study.declare.run import Run


IMAGES = 4  # axes: (batch, channels, height, width)


def resolve(name: str) -> DeviceName:
    """Return the device that a person means: "auto" is an accelerator, where there is one.

    Raises:
        StudyError: There is no such device here.
    """
    there: list[DeviceName] = ["cpu"]
    if torch.cuda.is_available():
        there.append("cuda")
    if torch.backends.mps.is_available():
        there.append("mps")
    if name == "auto":
        return there[-1]
    found = next((each for each in there if each == name), None)
    if found is None:
        raise StudyError(
            f"--device {name}: torch {torch.__version__} finds no such device here, only "
            f"{', '.join(there)}; --device auto takes what there is"
        )
    return found


def prepare(device: torch.device) -> None:
    """Let operations on an accelerator be deterministic, where torch has such ones."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(mode=True, warn_only=True)


def precision(run: Run) -> AbstractContextManager[Any]:
    """Return in what a run computes its outputs and losses, as a block that may be entered anew."""
    if run.autocast is None:
        return nullcontext()
    return torch.autocast(torch.device(run.device).type, getattr(torch, run.autocast))


def placed(model: nn.Module, run: Run) -> nn.Module:
    """Return a model on its run's device, with weights in the memory order that the run says."""
    model = model.to(torch.device(run.device))
    if run.channels_last:
        to: Any = model.to  # its types know of no memory format
        to(memory_format=torch.channels_last)
    return model


def arranged(inputs: Tensor, run: Run) -> Tensor:
    """Return a batch in the memory order that the run says, where it is of images."""
    if run.channels_last and inputs.dim() == IMAGES:
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs


def seeded(device: torch.device, seed: int) -> Tensor:
    """Return the state of a device's random numbers after a seed."""
    if device.type in ("cpu", "meta"):
        return torch.Generator().manual_seed(seed).get_state()
    return torch.Generator(device).manual_seed(seed).get_state()


def random_state(device: torch.device) -> Tensor:
    """Return the state of the random numbers that models draw on a device."""
    if device.type in ("cpu", "meta"):
        return torch.get_rng_state()
    state: Tensor = _module(device).get_rng_state()
    return state


@contextmanager
def random_numbers(device: torch.device, state: Tensor) -> Iterator[None]:
    """Let models draw the random numbers that follow a state; afterwards all is as it was."""
    before = random_state(device)
    _set_random_state(device, state)
    try:
        yield
    finally:
        _set_random_state(device, before)


def synchronize(device: torch.device) -> None:
    """Wait until a device has done what it was told, to measure its time."""
    if device.type not in ("cpu", "meta"):
        _module(device).synchronize()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type in ("cpu", "meta"):
        torch.set_rng_state(state)
    else:
        _module(device).set_rng_state(state)


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)
