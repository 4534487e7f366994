"""torch's own table of optimizer tests, as candidates of ours.

`torch.testing._internal.common_optimizers.optim_db` ships in the wheel: the configurations, error
inputs, schedulers, implementations and tolerances by which torch tests its optimizers. The laws in
this folder are those of torch's `test_optim.py`, required of ours in every one of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor
from torch.nn import Parameter
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.testing import assert_close
from torch.testing._internal.common_optimizers import OptimizerInfo, OptimizerInput, optim_db

from hypergradient import SGDHD, AdamHD, AdamWHD
from pairwise import covering

settings.load_profile("reproducible")  # the import above has loaded a profile of torch's

HD: dict[str, Any] = {"SGD": SGDHD, "Adam": AdamHD, "AdamW": AdamWHD}
INFOS: dict[str, OptimizerInfo] = {
    info.name: info
    for info in optim_db
    if info.name in HD  # each has all three implementations
}
IMPLEMENTATIONS: dict[str, dict[str, bool]] = {
    "for-loop": {"foreach": False, "fused": False, "differentiable": False},
    "foreach": {"foreach": True, "fused": False, "differentiable": False},
    "fused": {"foreach": False, "fused": True, "differentiable": False},
    "default": {},  # torch has one too, and ours chooses for itself
    "differentiable": {"foreach": False, "fused": False, "differentiable": True},
}
BETAS = {"zero": 0.0, "live": 1e-8}  # live: the rates of these problems move, and stay stable


@dataclass(frozen=True)
class Candidate:
    """One configuration of torch's table, in one implementation, with a beta of ours."""

    name: str
    implementation: str
    index: int
    beta: str
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        described = self._input.desc.replace(" ", "_")
        return f"{HD[self.name].__name__}-{self.implementation}-{self.beta}-{described}"

    @property
    def info(self) -> OptimizerInfo:
        return INFOS[self.name]

    @property
    def live(self) -> bool:
        return BETAS[self.beta] != 0

    @property
    def _input(self) -> OptimizerInput:
        return self.info.optim_inputs_func(device="cpu", dtype=self.dtype)[self.index]

    @property
    def options(self) -> dict[str, Any]:
        """torch's keywords, new ones each time: a learning rate may be a tensor."""
        return {**self._input.kwargs, **IMPLEMENTATIONS[self.implementation]}

    @property
    def maximize(self) -> bool:
        return bool(self.options.get("maximize", False))

    def ours(self, params: Any, **changes: Any) -> torch.optim.Optimizer:
        options = {"hypergrad_lr": BETAS[self.beta], **self.options, **changes}
        ours: torch.optim.Optimizer = HD[self.name](params, **options)
        return ours

    def theirs(self, params: Any, **changes: Any) -> torch.optim.Optimizer:
        theirs: torch.optim.Optimizer = self.info.optim_cls(params, **{**self.options, **changes})
        return theirs


def candidates(
    *,
    names: Iterable[str] = HD,
    without: Iterable[str] = ("differentiable",),
    betas: Iterable[str] = BETAS,
) -> list[Candidate]:
    """Candidates in which all pairs of an implementation, a configuration and a beta meet."""
    ways = [each for each in IMPLEMENTATIONS if each not in without]
    given = [*betas]
    return [
        Candidate(name, ways[way], index, given[beta])
        for name in names
        for way, index, beta in covering(
            [len(ways), len(INFOS[name].optim_inputs_func(device="cpu")), len(given)]
        )
    ]


def each(**selection: Any) -> pytest.MarkDecorator:
    """Run a law for each of the `candidates`."""
    return pytest.mark.parametrize("candidate", candidates(**selection), ids=str)


class Problem:
    """torch's problem: a layer of ten outputs whose squares are the loss."""

    def __init__(self, *, contiguous: bool = True, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        strided = () if contiguous else (2,)
        weight = torch.randn(10, 5, *strided, generator=generator)
        bias = torch.randn(10, *strided, generator=generator)
        self.weight = Parameter(weight if contiguous else weight[..., 0])
        self.bias = Parameter(bias if contiguous else bias[..., 0])
        self.input = torch.randn(5, generator=generator)

    @property
    def params(self) -> list[Tensor]:
        return [self.weight, self.bias]

    def loss(self) -> Tensor:
        return (self.weight.mv(self.input) + self.bias).pow(2).sum()

    def backward(self) -> Tensor:
        for p in self.params:
            p.grad = None
        loss = self.loss()
        torch.autograd.backward(loss)
        return loss

    def copy(self) -> "Problem":
        new = Problem()
        new.weight = Parameter(self.weight.detach().clone())
        new.bias = Parameter(self.bias.detach().clone())
        new.input = self.input
        return new

    def train(
        self, optimizer: torch.optim.Optimizer, schedulers: Iterable[Any] = (), steps: int = 20
    ) -> None:
        for _ in range(steps):
            loss = self.backward()
            optimizer.step()
            for scheduler in schedulers:
                if isinstance(scheduler, ReduceLROnPlateau):
                    scheduler.step(loss.detach())
                else:
                    scheduler.step()


def assert_right_direction(candidate: Candidate, before: Tensor, after: Tensor) -> None:
    assert after > before if candidate.maximize else after < before


def assert_same(ours: Iterable[Tensor], theirs: Iterable[Tensor], **tolerance: float) -> None:
    for x, y in zip(ours, theirs, strict=True):
        assert_close(x.detach(), y.detach(), **tolerance)


def assert_same_state(ours: Any, theirs: Any, **tolerance: float) -> None:
    """All that torch's state holds, ours holds and is equal to."""
    for name, wanted in theirs.items():
        if isinstance(wanted, Tensor):
            assert_close(ours[name].detach(), wanted.detach(), **tolerance)
        else:
            assert ours[name] == wanted, name
