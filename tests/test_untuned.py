"""benchmarks/untuned.py: its laws of minibatch noise, against noise that was drawn."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def untuned() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "untuned.py"
    spec = importlib.util.spec_from_file_location("untuned", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["untuned"] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def reshuffled(m: int, epochs: int) -> torch.Tensor:
    """Noise of m fixed batches in a new order each epoch: it adds up to nothing within an epoch."""
    generator = torch.Generator().manual_seed(m)
    noise = torch.randn(m, 50, generator=generator, dtype=torch.float64)
    noise -= noise.mean(0)
    return torch.cat([noise[torch.randperm(m, generator=generator)] for _ in range(epochs)])


@pytest.mark.parametrize("m", [3, 14])
def test_noise_correlates_by_lag_as_the_law_says(untuned: ModuleType, m: int) -> None:
    noise = reshuffled(m, 20_000 // m)
    norm = (noise * noise).sum(1).mean()
    for lag in (1, 2, m - 1, m, m + 1):
        measured = (noise[lag:] * noise[:-lag]).sum(1).mean() / norm
        assert measured.item() == pytest.approx(untuned.law(lag, m), abs=0.01)


@pytest.mark.parametrize("m", [5, 14, 50])
def test_the_ratio_of_noise_alone_is_the_predicted_one(untuned: ModuleType, m: int) -> None:
    noise = reshuffled(m, 5_000 // m)
    mean, above, below, before = torch.zeros(50, dtype=torch.float64), 0.0, 0.0, None
    for n in noise:
        if before is not None:
            above += (n @ mean).item()
            below += (before @ mean).item()
        mean, before = 0.9 * mean + 0.1 * n, n
    assert above / below == pytest.approx(untuned.noise_part(m), abs=0.05)


def test_a_probed_start_does_not_matter(untuned: ModuleType) -> None:
    problem = untuned.Problem(0.2)
    low, high = (
        untuned.train(problem, untuned.Probe(4.0**k, 0.25, "w"), epochs=1) for k in (-10, 0)
    )
    assert low.rates == high.rates


def test_the_first_step_of_an_epoch_is_all_that_the_rule_hears(untuned: ModuleType) -> None:
    problem = untuned.Problem(0.2)
    rule = untuned.Ratio(1e-6, every=untuned.BATCHES)
    rates = untuned.train(problem, rule, epochs=3).rates
    moves = [t for t in range(1, len(rates)) if rates[t] != rates[t - 1]]
    assert moves == [untuned.BATCHES, 2 * untuned.BATCHES]


def test_a_memory_keeps_the_rate_where_one_step_loses_it(untuned: ModuleType) -> None:
    """The same optimizer on the same reshuffled batches with a fifth of the labels random."""
    problem = untuned.Problem(0.2)
    short, long = (
        untuned.train_untuned(problem, optimizer, 60)
        for optimizer in (untuned.OneStep, untuned.Untuned)
    )
    assert max(short.rates) < 0.2 * max(long.rates)
    assert long.rates[-1] > 10 * short.rates[-1]
    assert long.average < 0.1 * short.average
