"""Laws: a step is few launches however many tensors there are, and asks the device for nothing.

The device here is "meta", whose tensors have no numbers: whoever asks for one raises. In the place
of the kernels stands what counts their launches. What torch itself would launch is counted too.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to launch")

from hypergradient import SGDHD, AdamHD, AdamWHD, Untuned
from hypergradient.engine.gpu import device, formula_kernels, step, tables
from hypergradient.engine.gpu import kernels as own_kernels
from hypergradient.engine.gpu.recipes import Operands

FREE = {"detach", "alias", "unbind", "select", "slice", "view", "expand", "unsqueeze", "as_strided"}
FREE |= {"empty", "new_empty", "empty_like", "zero_", "_record_function_enter_new"}
FREE |= {"_record_function_exit"}
RULES = {"additive": 3, "multiplicative": 3, "relative": 7, "adam": 6, "hdm": 6}


class Launches(TorchDispatchMode):
    """Counts what torch would launch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [t for t in (out, *args) if isinstance(t, torch.Tensor)]
        if name not in FREE and any(t.is_meta for t in tensors):
            self.names.append(name)
        return out


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that have been launched; none of them runs."""
    names: list[str] = []

    class Counted:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *_args, **_options: names.append(self.name)

    every = ("visit", "move_rates", "descend", "square", "average", "count_steps", "add_up")
    counted = SimpleNamespace(TYPES=own_kernels.TYPES, **{name: Counted(name) for name in every})
    monkeypatch.setattr(device, "usable", lambda where: where.type == "meta")
    monkeypatch.setattr(step, "import_module", lambda _: counted)
    monkeypatch.setattr("hypergradient.engine.gpu.average.import_module", lambda _: counted)
    monkeypatch.setattr(formula_kernels, "_kernel", lambda _: Counted("numbers"))
    monkeypatch.setattr(formula_kernels, "_known", {})
    monkeypatch.setattr(tables, "addresses_of", addresses)
    return names


def addresses(each: Operands) -> tuple[int, ...]:
    """Addresses for what has none."""
    return tuple(0 if t is None else id(t) for t in each[:6])


def parameters(count: int) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.empty(4, 3, device="meta")) for _ in range(count)]


def steps(optimizer: torch.optim.Optimizer, launched: list[str]) -> list[str]:
    """All launches of the fourth step, each with gradients at other addresses."""
    for _ in range(4):
        launched.clear()
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.empty_like(p)
        with Launches() as by_torch:
            optimizer.step()
    return launched + by_torch.names


@pytest.mark.parametrize("base", ["adam", "sgd"])
def test_untuned_is_some_launches_and_not_one_for_each_number(
    base: Any, launched: list[str]
) -> None:
    one = steps(Untuned(parameters(150), base=base), launched)
    squares, counts = (["square"], ["count_steps"]) if base == "adam" else ([], [])
    moves = [*squares, "average", *counts]
    assert launched == ["numbers", *moves, "add_up", "numbers", "numbers"]
    assert len(one) <= 9, one


def test_untuned_with_two_groups(launched: list[str]) -> None:
    groups = [
        {"params": parameters(100), "weight_decay": 0.1},
        {"params": parameters(50), "lr": 0.5},
    ]
    both = steps(Untuned(groups), launched)
    assert both.count("numbers") == 6
    assert len(both) < 15, both


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", [SGDHD, AdamHD, AdamWHD])
def test_every_rule_is_some_launches(kind: Any, rule: str, launched: list[str]) -> None:
    every = steps(kind(parameters(150), rule=rule, hypergrad_lr=1e-3), launched)
    assert len(every) <= RULES[rule], every
