"""Mistakes that people make with optimizers are told at once, with the value and the remedy."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, MuonHD, Untuned

EVERY = (SGDHD, AdamHD, AdamWHD, MuonHD, Hypergradient, Untuned)
ADAPTIVE = EVERY[:-1]  # which have a rule to choose
WITH_BETAS = (AdamHD, AdamWHD, Untuned)


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(2, 3))


def refuses(run: Callable[[], object], *fragments: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        run()
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message
    assert "\n" not in message


TEXT = (
    (ADAPTIVE, {"hypergrad_lr": "1e-3"}, "hypergrad_lr='1e-3' is text, not a number: write 0.001"),
    (ADAPTIVE, {"hypergrad_lr": "1e-3"}, "1.0e-03"),
    (EVERY, {"lr": "1e-3"}, "lr='1e-3' is text"),
    (EVERY, {"lr": "auto"}, "lr='auto' is not a "),
    (EVERY, {"lr": None}, "lr=None is not a "),
    (EVERY, {"lr": [0.1]}, "lr=[0.1] is not a "),
    (EVERY, {"weight_decay": "1e-2"}, "weight_decay='1e-2' is text"),
    ((SGDHD, MuonHD), {"momentum": "0.9"}, "momentum='0.9' is text"),
    ((AdamHD, AdamWHD, Untuned, MuonHD), {"eps": "1e-8"}, "eps='1e-8' is text"),
    (WITH_BETAS, {"betas": 0.9}, "betas=0.9 is not 2 numbers in [0, 1), such as (0.9, 0.999)"),
    (WITH_BETAS, {"betas": (0.9,)}, "betas=(0.9,) is not 2 numbers"),
    (WITH_BETAS, {"betas": (0.9, 0.99, 0.999)}, "is not 2 numbers"),
    (WITH_BETAS, {"betas": ("0.9", 0.999)}, "betas[0]='0.9' is text"),
    (ADAPTIVE, {"lr": 0.0, "rule": "multiplicative"}, "lr=0.0 stays 0 for ever with rule="),
    (ADAPTIVE, {"lr": torch.tensor(0.0), "rule": "relative"}, "stays 0 for ever with rule="),
    ((Untuned,), {"betas": (1e-7, 0.999)}, "betas[0]=1e-07 is less than 0.01"),
    ((Untuned,), {"base": "lion", "interpolation": 1e-3}, "interpolation=0.001 is less than"),
)
TABLE = [
    pytest.param(optimizer, options, message, id=f"{optimizer.__name__}-{message[:40]}")
    for optimizers, options, message in TEXT
    for optimizer in optimizers
]


@pytest.mark.parametrize(("optimizer", "options", "message"), TABLE)
def test_a_value_is_refused_at_construction_and_in_a_group(
    optimizer: Any, options: dict[str, Any], message: str
) -> None:
    refuses(lambda: optimizer([parameter()], **options), message, error=ValueError)
    if "base" in options:
        return
    good = optimizer([parameter()])
    group = {"params": [parameter()], **options}
    refuses(lambda: good.add_param_group(group), message, error=ValueError)
    assert len(good.param_groups) == 1


def test_a_rate_of_zero_is_fine_where_something_moves_it_or_nothing_should() -> None:
    for options in ({"rule": "additive"}, {"rule": "multiplicative", "hypergrad_lr": 0.0}):
        assert AdamHD([parameter()], lr=0.0, **options).lr_summary()["max"] == 0.0


@pytest.mark.parametrize("optimizer", EVERY)
def test_a_model_is_not_its_parameters(optimizer: Any) -> None:
    model = nn.Linear(3, 2)
    message = "params=Linear(...) is a model: give its parameters, model.parameters()"
    refuses(lambda: optimizer(model), message, error=TypeError)
    refuses(lambda: optimizer([{"params": model}]), message, error=TypeError)


@pytest.mark.parametrize("optimizer", EVERY)
def test_the_parameters_of_a_group_may_be_a_generator(optimizer: Any) -> None:
    model = nn.Linear(3, 2, bias=False)
    groups = optimizer([{"params": model.parameters()}]).param_groups
    assert [p for group in groups for p in group["params"]] == [model.weight]


def test_untuned_names_the_dtype_that_it_does_not_train_and_what_to_do() -> None:
    tiny = torch.ones(2).to(torch.float8_e4m3fn)
    for p, remedy in ((tiny, "bfloat16"), (torch.ones(2, dtype=torch.int64), "leave")):
        refuses(lambda p=p: Untuned([p]), str(p.dtype), remedy, error=ValueError)


def trained(optimizer: Any, p: Tensor) -> Any:
    for _ in range(2):
        p.grad = torch.ones_like(p)
        optimizer.step()
    return optimizer


CHANGES = (
    ("granularity", "group", "tensor"),
    ("granularity", "tensor", "group"),
    ("granularity", "group", "element"),
    ("granularity", "group", "global"),
    ("granularity", "group", "layer"),
    ("rule", "additive", "relative"),
    ("rule", "additive", "ratio"),
    ("base", "sgd", "adam"),
)


@pytest.mark.parametrize(("option", "before", "now"), CHANGES)
def test_an_option_that_the_state_depends_on_cannot_change(
    option: str, before: str, now: str
) -> None:
    p = parameter()
    start = {"granularity": "group", "base": "sgd", "rule": "additive", option: before}
    optimizer = trained(Hypergradient([p], lr=0.1, **start), p)
    theta, rates = p.detach().clone(), optimizer.lr_summary()
    optimizer.param_groups[0][option] = now
    message = f"{option}={now!r} was {before!r} when", f"put {before!r} back, or make a new"
    refuses(optimizer.step, *message, error=ValueError)
    assert torch.equal(p, theta)
    optimizer.param_groups[0][option] = before
    assert optimizer.lr_summary() == rates
    optimizer.step()
    assert not torch.equal(p, theta)


def test_a_change_is_noticed_beside_a_rate_that_somebody_wrote() -> None:
    p = parameter()
    optimizer = trained(SGDHD([p], lr=0.1), p)
    optimizer.param_groups[0].update(lr=0.05, granularity="tensor")
    refuses(optimizer.step, "granularity='tensor' was 'group'", error=ValueError)


def test_a_rule_that_remembers_as_much_may_take_over() -> None:
    p = parameter()
    optimizer = trained(SGDHD([p], lr=0.1, hypergrad_lr=0.01), p)
    before = optimizer.lr_summary()["max"]
    optimizer.param_groups[0]["rule"] = "multiplicative"
    optimizer.step()
    assert optimizer.lr_summary()["max"] == pytest.approx(before * 1.01, rel=1e-6)


def test_a_loaded_state_brings_its_own_options() -> None:
    p = parameter()
    saved = trained(SGDHD([p], lr=0.1, granularity="tensor"), p).state_dict()
    q = parameter()
    optimizer = SGDHD([q], lr=0.1)
    optimizer.load_state_dict(saved)
    trained(optimizer, q)
    assert re.match("tensor", optimizer.param_groups[0]["granularity"])
