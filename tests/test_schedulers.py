"""Law: every scheduler of torch shapes the rate, and the hypergradient scales it.

On a loss with a constant gradient the multiplicative rule multiplies the rate by 1 + beta at each
step but the first. So the rate must be what the same scheduler makes of torch's own optimizer,
times that many factors: whether the scheduler multiplies what it finds or overwrites it.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer, lr_scheduler, swa_utils

from hypergradient import SGDHD, AdamHD

BETA, STEPS, LR = 0.1, 12, 0.05
GRANULARITIES = ("global", "group", "tensor", "element", "member")


def warmup_then_plateau(optimizer: Optimizer) -> list[Any]:
    warmup = lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=3)
    return [warmup, lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3)]


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "LambdaLR warm-up": lambda o: lr_scheduler.LambdaLR(o, lambda t: min(1.0, (t + 1) / 5)),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda _: 0.9),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, gamma=0.1),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 7], gamma=0.5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, factor=0.3, total_iters=4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, start_factor=0.2, total_iters=6),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, gamma=0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, total_iters=STEPS + 2, power=2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS + 2),
    "WarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=5),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 4, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=STEPS + 2),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[4],
    ),
    "SequentialLR to cosine": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.CosineAnnealingLR(o, STEPS)],
        milestones=[4],
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, total_iters=5), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2),
    "LinearLR + ReduceLROnPlateau": warmup_then_plateau,
    "SWALR": lambda o: swa_utils.SWALR(o, swa_lr=0.01, anneal_epochs=STEPS),
}
ONE_RATE = {"ReduceLROnPlateau", "LinearLR + ReduceLROnPlateau"}  # torch's writes a float
PAIRS = [
    (name, granularity)
    for name in SCHEDULERS
    for granularity in GRANULARITIES
    if granularity != "member" or name not in ONE_RATE
]
AFFINE = {
    "SWALR"
}  # moves towards an absolute rate, so a scale of the rate is not one of the result


def advance(scheduler: Any) -> None:
    for each in scheduler if isinstance(scheduler, list) else [scheduler]:
        if isinstance(each, lr_scheduler.ReduceLROnPlateau):
            each.step(1.0)  # a loss that never improves
        else:
            each.step()


def rates_of(
    optimizer: Optimizer, p: Tensor, scheduler: Any, steps: int, own: Callable[[], Any]
) -> list[float]:
    used = []
    for _ in range(steps):
        p.grad = torch.ones_like(p)
        optimizer.step()
        used.append(float(torch.as_tensor(own()).flatten()[0]))
        advance(scheduler)
    return used


def both(
    name: str, granularity: str, beta: float, kind: type[Any] = SGDHD
) -> tuple[list[float], list[float]]:
    ours, theirs = (torch.zeros(3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    hd = kind([ours], lr=LR, rule="multiplicative", hypergrad_lr=beta, granularity=granularity)
    base = torch.optim.SGD([theirs], lr=LR)

    def own() -> Any:
        return hd.state[ours].get("lr", hd.param_groups[0]["lr"])

    make = SCHEDULERS[name]
    return (
        rates_of(hd, ours, make(hd), STEPS, own),
        rates_of(base, theirs, make(base), STEPS, lambda: base.param_groups[0]["lr"]),
    )


@pytest.mark.parametrize(("name", "granularity"), PAIRS)
def test_without_a_hypergradient_the_schedule_is_torchs(name: str, granularity: str) -> None:
    ours, schedule = both(name, granularity, beta=0.0)
    assert ours == pytest.approx(
        schedule, rel=1e-6
    )  # torch's schedulers hold some factors in float32
    assert len(set(schedule)) > 1


@pytest.mark.parametrize("kind", [SGDHD, AdamHD])
@pytest.mark.parametrize(("name", "granularity"), [p for p in PAIRS if p[0] not in AFFINE])
def test_the_schedule_shapes_and_the_hypergradient_scales(
    name: str, granularity: str, kind: type[Any]
) -> None:
    ours, schedule = both(name, granularity, BETA, kind)
    expected = [s * (1 + BETA) ** t for t, s in enumerate(schedule)]
    assert ours == pytest.approx(expected, rel=1e-6)


def test_a_warm_up_from_zero_forgets_nothing() -> None:
    """At a rate of zero nothing can be learned; afterwards the scale is what it was before."""
    p = torch.zeros(3, requires_grad=True)
    optimizer = SGDHD([p], lr=LR, rule="multiplicative", hypergrad_lr=BETA)
    shape = [0.0, 0.5, 1.0, 0.0, 1.0, 1.0, 1.0]
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: shape[t])
    used = rates_of(optimizer, p, scheduler, 6, lambda: optimizer.param_groups[0]["lr"])
    grown = [0, 1, 2, 2, 3, 4]  # steps at a rate above zero, the first without a hypergradient
    expected = [LR * s * (1 + BETA) ** n for s, n in zip(shape, grown, strict=False)]
    assert used == pytest.approx(expected, rel=1e-6)


def test_a_scheduler_may_come_in_mid_training() -> None:
    p = torch.zeros(3, requires_grad=True)
    optimizer = SGDHD([p], lr=LR, rule="multiplicative", hypergrad_lr=BETA)

    def own() -> Any:
        return optimizer.param_groups[0]["lr"]

    rates_of(optimizer, p, [], 4, own)
    learned = float(own()) / LR
    assert learned == pytest.approx((1 + BETA) ** 3)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t)
    used = rates_of(optimizer, p, scheduler, 3, own)
    expected = [LR * learned * 0.5**t * (1 + BETA) ** (t + 1) for t in range(3)]
    assert used == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "granularity"),
    [
        p
        for p in PAIRS
        if p[0] in {"OneCycleLR", "CosineAnnealingLR", "LambdaLR", "ReduceLROnPlateau"}
    ],
)
def test_saved_and_loaded_in_mid_schedule_it_goes_on(name: str, granularity: str) -> None:
    def build() -> tuple[Tensor, SGDHD, Any]:
        p = torch.zeros(3, requires_grad=True)
        options: dict[str, Any] = {"rule": "multiplicative", "granularity": granularity}
        optimizer = SGDHD([p], lr=LR, hypergrad_lr=BETA, **options)
        return p, optimizer, SCHEDULERS[name](optimizer)

    p, optimizer, scheduler = build()
    rates_of(optimizer, p, scheduler, 5, lambda: 0.0)
    q, resumed, its_scheduler = build()
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    its_scheduler.load_state_dict(scheduler.state_dict())
    ends = [
        rates_of(o, x, s, 5, lambda o=o, x=x: o.state[x].get("lr", o.param_groups[0]["lr"]))
        for o, x, s in ((optimizer, p, scheduler), (resumed, q, its_scheduler))
    ]
    assert ends[0] == ends[1]


def test_what_is_written_by_hand_is_the_rate() -> None:
    p = torch.zeros(3, requires_grad=True)
    optimizer = SGDHD([p], lr=LR, hypergrad_lr=0.0)
    group = optimizer.param_groups[0]
    for value in (0.2, torch.tensor(0.3), group["lr"] * 2):
        group["lr"] = value
        wanted = float(value)
        rates_of(optimizer, p, [], 1, lambda: 0.0)
        assert float(group["lr"]) == pytest.approx(wanted)


def test_a_scheduler_starts_from_a_rate_that_was_filled_in() -> None:
    p = torch.zeros(3, requires_grad=True)
    optimizer = SGDHD([p], lr=LR, hypergrad_lr=0.0)
    optimizer.param_groups[0]["lr"].fill_(0.2)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t)
    used = rates_of(optimizer, p, scheduler, 3, lambda: optimizer.param_groups[0]["lr"])
    assert used == pytest.approx([0.2, 0.1, 0.05])


def test_what_is_computed_from_a_rate_is_a_tensor_like_any() -> None:
    optimizer = SGDHD([torch.zeros(3, requires_grad=True)], lr=LR)
    scheduler = lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    rate = optimizer.param_groups[0]["lr"]
    for number in (rate, rate * 2, rate.clone(), *scheduler.get_last_lr()):
        assert f"{number:.3f}" == f"{float(number):.3f}"
        assert repr(number) == repr(torch.tensor(float(number), dtype=rate.dtype))
    assert float(rate.clone().fill_(3.0)) == 3.0
    assert float(rate) == LR


def test_the_state_holds_plain_tensors_only(tmp_path: Any) -> None:
    p = torch.zeros(3, requires_grad=True)
    optimizer = SGDHD([p], lr=LR)
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert type(loaded["param_groups"][0]["lr"]) is Tensor
