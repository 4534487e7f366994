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


def half(turn: int) -> list[Setting]:
    """Every class, granularity, rule and reduction; turns differ in which of them meet."""
    classes = list(METHODS)
    rates = {name: i // 2 for i, name in enumerate(GRANULARITIES)}
    return means() + [
        setting
        for setting in settings()
        if setting.method in UNTUNED
        or (classes.index(setting.method) + rates[setting.granularity] + turn) % 2
    ]


def test_half_of_the_settings_have_all_values() -> None:
    every = [*settings(), *means()]
    for turn in (0, 1):
        assert len(half(turn)) < 0.7 * len(every)
        for field in fields(Setting):
            values = [{getattr(s, field.name) for s in of} for of in (half(turn), every)]
            assert values[0] == values[1]
    assert {*half(0), *half(1)} == {*every}


@pytest.mark.parametrize(
    ("world", "wrapper"), [(world, name) for world, names in WORLDS.items() for name in names]
)
def test_the_ranks_do_what_one_process_does(world: int, wrapper: str) -> None:
    """On two ranks in all settings, on four in half of them."""
    chosen = half(list(WRAPPERS).index(wrapper)) if world == 4 else None
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
