"""Peers from other packages, and what they need of a training: modes, the loss, exact resuming."""

import io
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from hypergradient.study import cli
from hypergradient.study.declare.run import Run
from hypergradient.study.errors import StudyError
from hypergradient.study.methods import baselines
from hypergradient.study.methods.modes import step_function
from hypergradient.study.methods.registry import find_method
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.session import do_nothing
from hypergradient.study.train.training import Training, train

PACKAGES = {
    "Prodigy": "prodigyopt",
    "ProdigyPlus": "prodigyplus",
    "D-Adaptation": "dadaptation",
    "DoG": "dog",
    "Schedule-Free": "schedulefree",
    "MoMo": "momo",
    "Mechanic": "mechanic_pytorch",
    "AdamG": "pytorch_optimizer",
}


def make(method, task="digits-mlp", **hyper) -> Run:
    """A run of 3 epochs of 3 steps."""
    return Run(
        task=task,
        method=method,
        hyper=hyper,
        seed=0,
        study_seed=0,
        epochs=3,
        batch_size=64,
        weight_decay=0.0,
        train_examples=150,
        valid_examples=50,
        whole_train_loss=True,
    )


def have(method):
    if find_spec(PACKAGES[method]) is None:
        pytest.skip(f"{PACKAGES[method]} is not installed")


def numbers(records):
    return [(r.epoch, r.train_loss, r.valid_loss, r.train_accuracy) for r in records]


def goes_on_to_the_bit(run):
    """Check that a run goes on from its fifth step as if it were whole; return its records."""
    dataset, kept = find_task(run.task).load(), []

    def keep(training):
        if training.step == 5:
            file = io.BytesIO()
            torch.save(training.state(), file)
            kept.append(file.getvalue())

    whole = list(train(run, initial_model(run), dataset, after_step=keep))
    saved = torch.load(io.BytesIO(kept[0]), weights_only=True)
    rest = numbers(train(run, initial_model(run), dataset, saved=saved))
    assert rest
    assert rest == numbers(whole)[-len(rest) :]
    return whole


@pytest.mark.parametrize("method", PACKAGES)
def test_a_peer_trains_from_its_start_and_goes_on_to_the_bit(method):
    have(method)
    assert find_method(method).problems({"lr": 1e-4}) == []
    run = make(method, lr=1e-3 if method == "MoMo" else 1e-2)  # none's default
    whole = numbers(goes_on_to_the_bit(run))
    assert whole[-1][1] < whole[0][1]
    assert whole != numbers(train(make(method), initial_model(run), find_task(run.task).load()))


def test_a_package_that_is_not_there_is_named_before_work_starts(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(baselines, "import_module", missing)
    for method, package in PACKAGES.items():
        assert find_method(method).problems({"lr": 1e-4}) == []  # a study can be read
        with pytest.raises(StudyError, match=rf"'{package}'.*\[bench\]"):
            cli.check_needs([make(method)], None)


def test_dog_is_evaluated_at_the_average_of_its_iterates():
    have("DoG")
    p = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = baselines.dog([p], lr=0.1)
    average = p.detach().clone()
    for t in range(1, 8):
        optimizer.zero_grad()
        (p**2).sum().backward()
        optimizer.step()
        weight = 9 / (8 + t)
        average = (1 - weight) * average + weight * p.detach()
        last = p.detach().clone()
        optimizer.eval()
        optimizer.eval()
        assert torch.allclose(p, average)
        optimizer.train()
        assert torch.equal(p, last)


class Asks(torch.optim.SGD):
    """Takes the loss, and keeps it."""

    def step(self, closure=None, loss=None):
        self.seen = [*getattr(self, "seen", []), loss]
        super().step(closure)


def test_a_step_that_asks_for_the_loss_gets_the_minibatch_s():
    run = make("SGD", lr=0.1)
    dataset = find_task(run.task).load()
    training = Training(run, initial_model(run), dataset)
    training.optimizer = Asks(training.model.parameters(), lr=0.1)
    training.advance = step_function(training.optimizer)
    for _ in range(3):
        training.make_step()
    seen = torch.stack(training.optimizer.seen)
    assert not seen.requires_grad
    assert torch.equal(seen, training.metrics.losses)


class Away(torch.optim.SGD):
    """Evaluates zeros and trains its own weights: the crudest of two sets of weights."""

    def eval(self):
        (p,) = self.param_groups[0]["params"]
        self.own = p.detach().clone()
        p.data.zero_()

    def train(self):
        if hasattr(self, "own"):
            (p,) = self.param_groups[0]["params"]
            p.data.copy_(self.own)
            del self.own


def test_evaluation_is_of_the_weights_that_an_optimizer_puts_there():
    run = make("SGD", "digits-logreg", lr=0.1)
    dataset = find_task(run.task).load()
    model = nn.Linear(64, 10, bias=False)
    training = Training(run, model, dataset)
    training.optimizer = Away(model.parameters(), lr=0.1)
    training.advance = step_function(training.optimizer)
    records = []
    for epoch in (1, 2):
        training.begin_epoch(epoch)
        records.append(training.finish_epoch(do_nothing))
        assert not model.weight.any()
    assert [r.train_loss for r in records] == pytest.approx([np.log(10)] * 2)
    assert training.metrics.losses[-1] < np.log(10)  # it trains what it has learned


def test_batch_norms_are_told_of_the_weights_that_are_evaluated():
    run = make("SGD", "digits-logreg", lr=0.1)
    dataset = find_task(run.task).load()
    model = nn.Sequential(nn.BatchNorm1d(64, momentum=None), nn.Dropout(), nn.Linear(64, 10))
    training = Training(run, model, dataset)
    training.refresh_norms()
    batches = torch.split(training.train_x, 64)
    expected = torch.stack([batch.mean(0) for batch in batches]).mean(0)
    assert torch.allclose(model[0].running_mean, expected, atol=1e-6)
    assert not model[1].training
