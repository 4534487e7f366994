"""One run: the same start and batches for all methods, and what its records say."""

import math

import pytest
import torch

from hypergradient.study.declare.run import Run
from hypergradient.study.tasks.data.load import load_data
from hypergradient.study.tasks.registry import TASKS
from hypergradient.study.train import evaluate as evaluation
from hypergradient.study.train.batches import epoch_order
from hypergradient.study.train.evaluate import evaluate, first_not_finite
from hypergradient.study.train.initial import initial_model, weights_hash
from hypergradient.study.train.records import EpochRecord
from hypergradient.study.train.training import train


def make(method="SGD", task="digits-logreg", epochs=2, batch_size=128, seed=0, **hyper) -> Run:
    return Run(
        task=task,
        method=method,
        hyper={"lr": 0.01} | hyper,
        seed=seed,
        study_seed=0,
        epochs=epochs,
        batch_size=batch_size,
        weight_decay=1e-4,
    )


def records_of(run: Run) -> list[EpochRecord]:
    return list(train(run, initial_model(run), load_data("digits")))


def numbers(records: list[EpochRecord]) -> list[tuple[float, ...]]:
    return [(r.train_loss, r.train_accuracy, r.valid_loss, r.valid_accuracy) for r in records]


PAIRS = {"SGD": "SGD-HD", "SGDN": "SGDN-HD", "Adam": "Adam-HD"}


@pytest.mark.parametrize("method", [*PAIRS, *PAIRS.values()])
def test_all_methods_start_from_the_same_weights_and_batch(method):
    ours, others = records_of(make(method, epochs=1))[0], records_of(make(epochs=1))[0]
    assert numbers([ours]) == numbers([others])
    weights = weights_hash(initial_model(make(method)))
    assert weights == weights_hash(initial_model(make()))
    assert weights != weights_hash(initial_model(make(seed=1)))


@pytest.mark.parametrize("task", ["digits-logreg", "digits-mlp"])
@pytest.mark.parametrize(("base", "hd"), PAIRS.items())
def test_hypergradient_lr_zero_reproduces_the_base_run(base, hd, task):
    zero = records_of(make(hd, task, hypergrad_lr=0.0))
    assert numbers(zero) == numbers(records_of(make(base, task)))
    assert all(record.lr_min == record.lr_max for record in zero)


def test_a_run_repeats_bit_for_bit_whatever_torchs_seed():
    first = numbers(records_of(make("Adam-HD", "digits-mlp", hypergrad_lr=1e-5)))
    torch.manual_seed(1234)
    state = torch.get_rng_state()
    assert numbers(records_of(make("Adam-HD", "digits-mlp", hypergrad_lr=1e-5))) == first
    assert torch.equal(torch.get_rng_state(), state)


def test_epochs_have_their_own_orders_and_cover_the_data():
    first, second = (epoch_order(make(), 1437, epoch) for epoch in (1, 2))
    assert not torch.equal(first, second)
    for order in (first, second):
        assert torch.equal(order.sort().values, torch.arange(1437))
    assert torch.equal(first, epoch_order(make("Adam-HD"), 1437, 1))


def test_a_task_that_is_not_shuffled_goes_through_the_examples_in_their_order():
    assert torch.equal(epoch_order(make(task="mnist-tanh"), 700, 2), torch.arange(700))


def test_records_are_those_of_a_plain_loop():
    """The obvious loop: mean of the minibatch losses, each before its update."""
    run = make(epochs=2, batch_size=500)
    digits = load_data("digits")
    x, y = torch.from_numpy(digits.train_x), torch.from_numpy(digits.train_y)
    model = initial_model(run)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=1e-4)
    for record in records_of(run)[1:]:
        losses, right = [], 0
        order = epoch_order(run, len(x), record.epoch)
        for start in range(0, len(x), 500):
            chosen = order[start : start + 500]
            logits = model(x[chosen])
            loss = torch.nn.functional.cross_entropy(logits, y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            right += (logits.argmax(1) == y[chosen]).sum().item()
        assert math.isclose(record.train_loss, sum(losses) / 3, rel_tol=1e-6)
        assert record.train_accuracy == right / len(x)
        logits = model(torch.from_numpy(digits.valid_x))
        valid_loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(digits.valid_y))
        assert math.isclose(record.valid_loss, valid_loss.item(), rel_tol=1e-6)
        assert record.step == 3 * record.epoch


def test_divergence_is_a_result_with_its_first_step():
    run = make("SGD", "digits-mlp", epochs=50, lr=1e6)
    records = records_of(run)
    last = records[-1]
    assert last.diverged_at_step is not None
    assert last.epoch < 50
    assert not math.isfinite(last.train_loss)
    steps = len(range(0, 1437, 128))
    assert (last.epoch - 1) * steps < last.diverged_at_step <= last.epoch * steps
    assert all(record.diverged_at_step is None for record in records[:-1])


@pytest.mark.parametrize(
    ("losses", "valid_loss", "expected"),
    [
        ([1.0, 2.0], 1.0, None),
        ([1.0, math.nan], 1.0, 12),
        ([math.inf, math.nan], math.nan, 11),
        ([1.0, 2.0], math.inf, 12),
    ],
)
def test_the_first_step_that_is_not_finite(losses, valid_loss, expected):
    assert first_not_finite(torch.tensor(losses), valid_loss, before=10) == expected


@pytest.mark.parametrize("granularity", ["group", "tensor", "element"])
def test_rates_are_of_the_steps_made(granularity):
    run = make("SGD-HD", "digits-mlp", hypergrad_lr=1e-3, granularity=granularity)
    before, after = records_of(run)[:2]
    assert before.lr_mean == before.lr_min == before.lr_max == pytest.approx(0.01)
    assert after.lr_min < after.lr_mean < after.lr_max
    assert after.lr_max > 0.01


def test_validation_in_chunks_is_the_whole(monkeypatch):
    model = TASKS["digits-mlp"].model(0)
    digits = load_data("digits")
    x, y = torch.from_numpy(digits.valid_x), torch.from_numpy(digits.valid_y)
    whole = evaluate(model, x, y)
    monkeypatch.setattr(evaluation, "VALIDATION_CHUNK", 7)
    assert evaluate(model, x, y) == pytest.approx(whole, rel=1e-6)
