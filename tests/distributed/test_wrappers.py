"""Training on several ranks is training on one: the same rates, on each of them."""

import math
from dataclasses import fields
from itertools import product
from typing import Any

import pytest
import torch
from launch import launch
from torch import distributed
from training import (
    GRANULARITIES,
    METHODS,
    UNTUNED,
    WORLDS,
    WRAPPERS,
    Setting,
    batches,
    loss_of,
    means,
    network,
    outcomes,
    rates_of,
    settings,
)

EXACT = 1e-11  # float64: sums in another order, over 8 steps


def some(turn: int) -> list[Setting]:
    """A third of the settings, in which every class, granularity, rule and reduction occurs."""
    adaptive = [method for method in METHODS if method not in UNTUNED]
    places = dict(zip(adaptive, (0, 2, 1, 3), strict=True))  # both rules occur
    untuned = [setting for setting in settings() if setting.method in UNTUNED]
    return [
        *(
            setting
            for setting in settings()
            if setting.method in places
            and GRANULARITIES[(places[setting.method] + turn) % 4] == setting.granularity
        ),
        *(setting for i, setting in enumerate(untuned) if (i + i // 2 + turn) % 2),
        means()[turn % 3],
    ]


def test_in_each_turn_every_value_occurs_and_in_four_every_setting() -> None:
    every = [*settings(), *means()]
    for turn in range(4):
        for field in fields(Setting):
            values = [{getattr(s, field.name) for s in of} for of in (some(turn), every)]
            assert values[0] == values[1]
    assert {setting for turn in range(4) for setting in some(turn)} == {*every}


@pytest.mark.parametrize(
    ("world", "wrapper"), [(world, name) for world, names in WORLDS.items() for name in names]
)
def test_the_ranks_do_what_one_process_does(world: int, wrapper: str) -> None:
    """On two ranks in all settings, on four in a third of them, or two for what needs four."""
    turn = list(WRAPPERS).index(wrapper)
    turns = (turn,) if wrapper in WORLDS[2] else (turn, turn + 1)
    chosen = [setting for turn in turns for setting in some(turn)] if world == 4 else None
    for setting, outcome in launch(world, outcomes, wrapper, chosen)[0].items():
        assert outcome.same, setting
        assert outcome.rates < EXACT, setting
        assert outcome.parameters < EXACT, setting
        assert outcome.moved > 1e-4, setting


def poisoned() -> None:
    """One rank's batch is damaged, which gradients carry to the others."""
    rank = distributed.get_rank()
    for wrapper, setting in product(("DDP", "ZeRO", "FSDP2", "TP"), settings()):
        model = network(torch.float64)
        call, share, make = WRAPPERS[wrapper](model)
        optimizer = setting.build(model, make)
        for step, (x, y) in enumerate(batches(torch.float64)[:3]):
            before = rates_of(optimizer, model) if step == 2 else []
            optimizer.zero_grad()
            loss = loss_of(call, share, (x, y))
            (loss * math.inf if step == 2 and rank == 1 else loss).backward()
            optimizer.step()
        after = rates_of(optimizer, model)
        if wrapper != "TP":  # there replicas have gradients of their own, of which one counts
            for old, new in zip(before, after, strict=True):
                assert torch.equal(old, new), (wrapper, setting)
        if (wrapper, setting.granularity) == ("TP", "element"):
            continue  # nothing is sent, so unequal replicas are left so, weights and rates
        known: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(known, [rate.tolist() for rate in after])
        assert known[0] == known[1], (wrapper, setting)
        assert all(rate.isfinite().all() for rate in after), (wrapper, setting)


def test_a_damaged_batch_on_one_rank_moves_no_rate_on_any() -> None:
    launch(2, poisoned)
