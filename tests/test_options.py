"""Every option that makes no sense is refused, by a message with the value and the remedy."""

import math
import re
from typing import Any

import pytest
import torch

from hypergradient import SGDHD, AdamHD, AdamWHD

NAN, INF = math.nan, math.inf
EVERY = (SGDHD, AdamHD, AdamWHD)
ADAMS = (AdamHD, AdamWHD)
MEMBER = {"granularity": "member"}
NOT_NEGATIVE = r"negative|>= 0|at least 0"

# optimizers, bad options, what the message must hold: the option, its value, what to write instead.
BAD: list[tuple[tuple[type[torch.optim.Optimizer], ...], dict[str, Any], list[str]]] = [
    (EVERY, {"rule": "ratio"}, ["rule='ratio'", "additive", "multiplicative"]),
    (EVERY, {"rule": None}, ["rule=None", "additive", "multiplicative"]),
    (EVERY, {"granularity": "layer"}, ["granularity='layer'", "global, group, tensor, element"]),
    (EVERY, {"granularity": 1}, ["granularity=1", "global, group, tensor, element"]),
    (EVERY, {"reduction": "max"}, ["reduction='max'", "sum, mean"]),
    (EVERY, {"product": "momentum"}, ["product='momentum'", "direction, gradient"]),
    (
        (SGDHD,),
        {"classical": True, "momentum": 0.9, "dampening": 0.1},
        [r"dampening=0\.1", "classical", "0"],
    ),
    (EVERY, {"hypergrad_lr": -1e-3}, [r"hypergrad_lr=-0\.001", NOT_NEGATIVE]),
    (EVERY, {"hypergrad_lr": NAN}, ["hypergrad_lr=nan", NOT_NEGATIVE]),
    (EVERY, {"lr_bounds": (1.0, 0.1)}, [r"lr_bounds=\(1\.0, 0\.1\)", "<"]),
    (EVERY, {"lr_bounds": (0.1,)}, [r"lr_bounds=\(0\.1,\)", "pair|two"]),
    (EVERY, {"lr_bounds": (0.0, 0.1, 1.0)}, [r"lr_bounds=\(0\.0, 0\.1, 1\.0\)", "pair|two"]),
    (EVERY, {"lr_bounds": 0.5}, [r"lr_bounds=0\.5", "pair|two"]),
    (EVERY, {"lr_bounds": (NAN, 1.0)}, [r"lr_bounds=\(nan, 1\.0\)"]),
    (EVERY, {"lr_bounds": (0.0, NAN)}, [r"lr_bounds=\(0\.0, nan\)"]),
    (EVERY, {"lr": 2.0, "lr_bounds": (0.0, 1.0)}, [r"lr=2\.0", r"lr_bounds=\(0\.0, 1\.0\)"]),
    (EVERY, {"lr": 1e-4, "lr_bounds": (1e-3, 1.0)}, ["lr=0?.?0*1e-0?4|lr=0.0001", r"0\.001, 1\.0"]),
    # What torch's own constructors refuse they may refuse in their own words, with name and value.
    (EVERY, {"lr": -0.1}, [r"lr|learning rate", r"-0\.1"]),
    (EVERY, {"lr": NAN}, [r"lr|learning rate", "nan"]),
    (EVERY, {"lr": torch.tensor([0.1, 0.2])}, ["lr", "element"]),
    (EVERY, {**MEMBER, "lr": torch.tensor([0.1, -0.2])}, ["lr=tensor", NOT_NEGATIVE, "a member"]),
    (EVERY, {**MEMBER, "lr": torch.ones(3)}, ["lr=tensor", "3 numbers for 2 members"]),
    (EVERY, {**MEMBER, "hypergrad_lr": torch.tensor([NAN, 1.0])}, ["hypergrad_lr=tensor"]),
    (EVERY, {**MEMBER, "hypergrad_lr": torch.ones(3)}, ["hypergrad_lr=", "3 numbers for 2"]),
    (EVERY, {"hypergrad_lr": torch.ones(2)}, ["hypergrad_lr=tensor", "one element"]),
    (
        EVERY,
        {**MEMBER, "lr": torch.tensor([0.1, 2.0]), "lr_bounds": (0.0, 1.0)},
        [r"lr=2\.0", "lr_bounds"],
    ),
    (EVERY, {"weight_decay": -0.1}, ["weight_decay", r"-0\.1"]),
    ((SGDHD,), {"momentum": -0.5}, ["momentum", r"-0\.5"]),
    ((SGDHD,), {"nesterov": True}, ["[Nn]esterov", "momentum"]),
    (
        (SGDHD,),
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        ["[Nn]esterov", "dampening"],
    ),
    (ADAMS, {"betas": (1.0, 0.9)}, ["beta", r"1\.0"]),
    (ADAMS, {"betas": (0.9, -0.1)}, ["beta", r"-0\.1"]),
    (ADAMS, {"betas": (NAN, 0.9)}, ["beta", "nan"]),
    (ADAMS, {"eps": -1e-8}, ["eps", "-1e-08"]),
]


def table() -> list[Any]:
    return [
        pytest.param(hd, options, fragments, id=f"{hd.__name__}-{written(options)}")
        for optimizers, options, fragments in BAD
        for hd in optimizers
    ]


def written(options: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items()).replace(" ", "")


def parameter() -> torch.Tensor:
    return torch.zeros(2, requires_grad=True)


def assert_explains(error: pytest.ExceptionInfo[ValueError], fragments: list[str]) -> None:
    message = str(error.value)
    for fragment in fragments:
        assert re.search(fragment, message), f"{fragment!r} is not in {message!r}"
    assert "\n" not in message


@pytest.mark.parametrize(("hd", "options", "fragments"), table())
def test_refused_at_construction(hd: Any, options: dict[str, Any], fragments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        hd([parameter()], **options)
    assert_explains(error, fragments)


@pytest.mark.parametrize(("hd", "options", "fragments"), table())
def test_refused_in_one_group(hd: Any, options: dict[str, Any], fragments: list[str]) -> None:
    groups = [{"params": [parameter()]}, {"params": [parameter()], **options}]
    with pytest.raises(ValueError, match=r"\w") as error:
        hd(groups)
    assert_explains(error, fragments)


@pytest.mark.parametrize(("hd", "options", "fragments"), table())
def test_refused_in_a_group_added_later(
    hd: Any, options: dict[str, Any], fragments: list[str]
) -> None:
    optimizer = hd([parameter()])
    with pytest.raises(ValueError, match=r"\w") as error:
        optimizer.add_param_group({"params": [parameter()], **options})
    assert_explains(error, fragments)
    assert len(optimizer.param_groups) == 1


ACCEPTED: list[dict[str, Any]] = [
    {"hypergrad_lr": 0.0},
    {"lr": 0.0},
    {"lr": 1.0, "lr_bounds": (0.5, 1.0)},
    {"lr_bounds": (0.0, INF)},
    {"lr_bounds": [0.0, 1.0]},
    {"lr_bounds": None},
    {"lr": torch.tensor(0.1)},
    {"lr": torch.tensor([0.1])},
    {**MEMBER, "lr": torch.tensor([0.1, 0.0]), "hypergrad_lr": torch.tensor([0.0, 1e-3])},
    {**MEMBER, "lr": 0.1},
]


@pytest.mark.parametrize("options", ACCEPTED, ids=written)
@pytest.mark.parametrize("hd", EVERY, ids=lambda hd: hd.__name__)
def test_the_edges_of_what_makes_sense_are_accepted(hd: Any, options: dict[str, Any]) -> None:
    theta = parameter()
    optimizer = hd([theta], **options)
    theta.grad = torch.ones(2)
    optimizer.step()
    assert all(math.isfinite(value) for value in optimizer.lr_summary().values())
