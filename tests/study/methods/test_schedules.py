"""Schedules: the rates that a run uses are the formula's, step by step."""

import math

import pytest
import torch

from hypergradient.study.declare.run import Run
from hypergradient.study.methods.schedules import SCHEDULES
from hypergradient.study.tasks.registry import TASKS
from hypergradient.study.train.batches import epoch_order
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import train

STEPS = 3  # in an epoch
EPOCHS = 4
FORMULAS = {
    "constant": lambda _: 1,
    "lr-decay": lambda t: 0.5 ** ((t - 1) // (2 * STEPS)),  # every two epochs
    "robbins-monro": lambda t: 1 / t,
    "halving": lambda t: 1 / 2 ** math.floor(math.log2(t)),
    "cosine": lambda t: (1 + math.cos(math.pi * (t - 1) / (STEPS * EPOCHS))) / 2,
    # Of 12 steps one is the warm-up, and the other 11 fall.
    "warmup-cosine": lambda t: 1 if t == 1 else (1 + math.cos(math.pi * (t - 2) / 11)) / 2,
}


def run_of(schedule, method="SGD"):
    return Run(
        task="digits-logreg",
        method=method,
        schedule=schedule,
        hyper={"lr": 0.25},
        seed=0,
        study_seed=0,
        epochs=EPOCHS,
        batch_size=64,
        weight_decay=0.0,
        train_examples=150,
        valid_examples=50,
        decay_epochs=2,
    )


def test_the_formulas_cover_the_table():
    assert FORMULAS.keys() == SCHEDULES.keys() - {"hypergradient"}


@pytest.mark.parametrize("method", ["SGD", "Adam"])
@pytest.mark.parametrize("schedule", FORMULAS)
def test_each_step_uses_the_rate_of_the_formula(schedule, method):
    run = run_of(schedule, method)
    used = {}

    def note(training):
        used[training.step] = training.metrics.rates[-1, 0].item()

    data = TASKS[run.task].load()
    records = list(train(run, initial_model(run), data, after_step=note))
    wanted = {t: 0.25 * FORMULAS[schedule](t) for t in range(1, STEPS * EPOCHS + 1)}
    assert used == pytest.approx(wanted)
    assert records[0].lr_mean == 0.25
    for record in records[1:]:
        own = [used[t] for t in used if t <= record.step][-STEPS:]
        assert record.lr_mean == pytest.approx(sum(own) / STEPS)
        assert (record.lr_min, record.lr_max) == (min(own), max(own))


def test_a_scheduled_update_is_a_plain_loops():
    """SGD without momentum, by hand, at the rates of the formula."""
    run = run_of("robbins-monro")
    model, by_hand = initial_model(run), initial_model(run)
    data = TASKS[run.task].load().subset(150, 50)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    list(train(run, model, TASKS[run.task].load()))
    t = 0
    for epoch in range(1, EPOCHS + 1):
        for chosen in epoch_order(run, 150, epoch).split(64):
            t += 1
            loss = torch.nn.functional.cross_entropy(by_hand(x[chosen]), y[chosen])
            gradients = torch.autograd.grad(loss, list(by_hand.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(by_hand.parameters(), gradients, strict=True):
                    parameter.sub_(0.25 / t * gradient)
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_warm_up_rises_for_a_twentieth_of_all_steps():
    factors = [SCHEDULES["warmup-cosine"](t, 0, 100) for t in range(101)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[100] == pytest.approx(0)
