"""Law: a step that the kernels repeat is the eager one, whatever has changed between the steps."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", reason="Triton is not installed: there are no kernels to test")

from stepping import DEVICE

from hypergradient import SGDHD, AdamHD, AdamWHD, Untuned
from hypergradient.engine import native_library
from hypergradient.engine.gpu import device, lane

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
Change = Callable[[Any, list[Tensor]], None]


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "function", lambda: None)


def option(name: str, value: Any) -> Change:
    return lambda optimizer, _: optimizer.param_groups[0].update({name: value})


def write_rate(optimizer: Any, _: list[Tensor]) -> None:
    optimizer.param_groups[0]["lr"].fill_(0.02)


def lose_gradient(_: Any, params: list[Tensor]) -> None:
    params[0].grad = None


def move_gradient(_: Any, params: list[Tensor]) -> None:
    for p in params:
        p.grad = torch.stack([p.grad, p.grad])[1]


def turn_gradient(_: Any, params: list[Tensor]) -> None:
    params[0].grad = params[0].grad.t().contiguous().t()


def move_parameter(_: Any, params: list[Tensor]) -> None:
    params[0].data = params[0].data.clone()


def move_states(optimizer: Any, _: list[Tensor]) -> None:
    for state in optimizer.state.values():
        for t in state.values():
            t.data = t.data.clone()


def load(optimizer: Any, _: list[Tensor]) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def start_anew(optimizer: Any, params: list[Tensor]) -> None:
    optimizer.state[params[0]] = {}


def add_group(optimizer: Any, params: list[Tensor]) -> None:
    params.append(nn.Parameter(torch.ones(4, device=params[0].device)))
    params[-1].grad = torch.ones_like(params[-1])
    optimizer.add_param_group({"params": [params[-1]], "lr": 0.01})


def drop_parameter(optimizer: Any, _: list[Tensor]) -> None:
    optimizer.param_groups[0]["params"].pop()


def look_at_average(optimizer: Any, _: list[Tensor]) -> None:
    if hasattr(optimizer, "averaged"):
        with optimizer.averaged():
            pass


CHANGES: dict[str, Change] = {
    "nothing": lambda *_: None,
    "beta": option("hypergrad_lr", 1e-2),
    "bounds": option("lr_bounds", (0.0, 0.05)),
    "weight decay": option("weight_decay", 0.5),
    "maximize": option("maximize", True),
    "base method": option("hypergrad_lr", 0.0),
    "rule": option("rule", "multiplicative"),
    "rate": write_rate,
    "no gradient": lose_gradient,
    "gradients elsewhere": move_gradient,
    "strides": turn_gradient,
    "parameter elsewhere": move_parameter,
    "states elsewhere": move_states,
    "loaded": load,
    "one anew": start_anew,
    "one group more": add_group,
    "one parameter less": drop_parameter,
    "average and back": look_at_average,
}
NOT_OF_UNTUNED = {"maximize", "rule"}


def trained(
    kind: Any, change: Change, *, usable: bool, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Tensor], list[bool]]:
    """Seven steps, with a change before the fifth; and which of them were repeats."""
    repeats: list[bool] = []
    make = lane.Repeat.make
    own: Any = lambda self, of: repeats.append(make(self, of)) or repeats[-1]  # noqa: E731
    with monkeypatch.context() as m:
        m.setattr(device, "usable", lambda _: usable)
        m.setattr(lane.Repeat, "make", own)
        generator = torch.Generator().manual_seed(0)

        def random(p: Tensor) -> Tensor:
            return torch.randn(p.shape, generator=generator).to(DEVICE)

        params: list[Tensor] = [nn.Parameter(torch.ones(s, device=DEVICE)) for s in ((5, 3), (7,))]
        optimizer = optimizer_of(kind, params, granularity)
        for step in range(7):
            for p in params:
                p.grad = random(p)
            if step == 4:
                change(optimizer, params)
            optimizer.step()
    return params, repeats


def optimizer_of(kind: Any, params: list[Tensor], granularity: str) -> Any:
    if kind is Untuned:
        first, second = params
        return Untuned([{"params": [first]}, {"params": [second], "lr": 0.5}], weight_decay=0.1)
    options = {"momentum": 0.9, "nesterov": True} if kind is SGDHD else {}
    return kind(params, lr=0.03, hypergrad_lr=1e-3, granularity=granularity, **options)


def turns() -> list[Any]:
    """Every change with every optimizer; granularities take turns."""
    granularities = ("group", "tensor", "element")
    return [
        pytest.param(change, kind, granularities[(i + j) % 3], id=f"{change}-{kind.__name__}")
        for i, change in enumerate(CHANGES)
        for j, kind in enumerate((SGDHD, AdamHD, AdamWHD, Untuned))
        if not (kind is Untuned and change in NOT_OF_UNTUNED)
    ]


@pytest.mark.usefixtures("lent")
@pytest.mark.parametrize(("change", "kind", "granularity"), turns())
def test_a_repeated_step_is_the_eager_one(
    change: str, kind: Any, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [
        trained(kind, CHANGES[change], usable=u, granularity=granularity, monkeypatch=monkeypatch)
        for u in (True, False)
    ]
    (ours, repeats), (eager, none) = both
    assert any(repeats)
    assert not none
    for p, q in zip(ours, eager, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("lent")
def test_a_repeated_step_sees_who_else_writes_to_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "usable", lambda _: True)
    p = nn.Parameter(torch.ones(5, device=DEVICE))
    optimizer = Untuned([p])
    for _ in range(10):
        p.grad = torch.ones_like(p)
        optimizer.step()
    with torch.no_grad():
        p.add_(1.0)
    with pytest.warns(UserWarning, match="somebody else has written to the parameters"):
        optimizer.step()
