"""Training on several ranks is training on one: the same rates, on each of them."""

import math
from itertools import product
from typing import Any

import pytest
import torch
from launch import launch
from torch import distributed
from training import (
    WORLDS,
    WRAPPERS,
    batches,
    loss_of,
    network,
    outcomes,
    rates_of,
    settings,
)

EXACT = 1e-11  # float64: sums in another order, over 8 steps


@pytest.mark.parametrize(
    ("world", "wrapper"), [(world, name) for world, names in WORLDS.items() for name in names]
)
def test_the_ranks_do_what_one_process_does(world: int, wrapper: str) -> None:
    for setting, outcome in launch(world, outcomes, wrapper)[0].items():
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
