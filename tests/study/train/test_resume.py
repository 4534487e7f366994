"""A training that stops at any step and goes on has the very numbers it would have had."""

import io
import itertools
from contextlib import suppress

import numpy as np
import pytest
import torch

from hypergradient.study.declare.run import Run, Until
from hypergradient.study.methods.schedules import SCHEDULES
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import TASKS, Task
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import Training, train


class Stop(Exception):  # noqa: N818
    pass


def make(method="SGD", task="digits-logreg", **fields) -> Run:
    """A run of 3 epochs of 3 steps."""
    shape = {"epochs": 3, "batch_size": 64, "train_examples": 150, "valid_examples": 50}
    fixed = {"seed": 0, "study_seed": 0, "weight_decay": 1e-4, "hyper": {"lr": 0.01}}
    return Run(task=task, method=method, **(shape | fixed | fields))


def numbers(records):
    return [
        {name: value for name, value in vars(record).items() if name != "seconds"}
        for record in records
    ]


def whole(run):
    model = initial_model(run)
    return numbers(train(run, model, TASKS[run.task].load())), model.state_dict()


def interrupted(run, at):
    """Stop after the update `at`, keep the state as a file would, and go on with a new model."""
    kept = io.BytesIO()

    def stop(training):
        if training.step == at:
            torch.save(training.state(), kept)
            raise Stop

    data, records = TASKS[run.task].load(), []
    with suppress(Stop):
        for record in train(run, initial_model(run), data, after_step=stop):
            records.append(record)  # noqa: PERF402  (those before the stop count)
    assert kept.tell()
    kept.seek(0)
    saved, model = torch.load(kept, weights_only=True), initial_model(run)
    records += train(run, model, data, saved=saved)
    return numbers(records), model.state_dict()


def assert_same(one, other):
    assert one[0] == other[0]
    for ours, theirs in zip(one[1].values(), other[1].values(), strict=True):
        assert torch.equal(ours, theirs)


METHODS = {
    "SGD": {},
    "SGDN": {},
    "Adam": {},
    "AdamW": {},
    "RMSprop": {},
    "SGD-HD": {"hypergrad_lr": 1e-3},
    "SGDN-HD": {"hypergrad_lr": 1e-3, "lr_bounds": "none"},
    "Adam-HD": {"hypergrad_lr": 1e-5},
    "AdamW-HD": {"hypergrad_lr": 1e-5, "granularity": "tensor"},
}
STEPS = range(1, 10)  # the ends of epochs are 3, 6 and 9


@pytest.mark.parametrize("method", METHODS)
def test_every_method_goes_on_from_every_step(method):
    schedule = "hypergradient" if method.endswith("-HD") else "constant"
    run = make(method, schedule=schedule, hyper={"lr": 0.01} | METHODS[method])
    undisturbed = whole(run)
    for at in STEPS:
        assert_same(interrupted(run, at), undisturbed)


@pytest.mark.parametrize("schedule", [name for name, factor in SCHEDULES.items() if factor])
def test_every_schedule_goes_on(schedule):
    run = make("Adam", schedule=schedule, decay_epochs=1)
    for at in (2, 3, 5):
        assert_same(interrupted(run, at), whole(run))


@pytest.fixture
def _tiny_images(monkeypatch):
    """Images with dropout, batch norm and augmentation, all of which draw or remember."""
    generator = np.random.default_rng(0)
    pixels = generator.normal(size=(30, 3, 8, 8)).astype(np.float32)
    classes = generator.integers(0, 4, 30)

    def model():
        convolution = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()]
        return torch.nn.Sequential(
            *convolution, torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(144, 4)
        )

    data = Data(pixels, classes, pixels, classes)
    task = Task(lambda _: data, model, augmentation="flip-and-crop")
    monkeypatch.setitem(TASKS, "digits-logreg", task)
    monkeypatch.setattr("hypergradient.study.declare.run.task_identity", lambda _: {})


@pytest.mark.usefixtures("_tiny_images")
def test_dropout_batch_norm_and_augmentation_go_on():
    run = make(train_examples=None, valid_examples=None, batch_size=10)
    undisturbed = whole(run)
    for at in STEPS:
        assert_same(interrupted(run, at), undisturbed)


@pytest.mark.usefixtures("_tiny_images")
def test_dropout_and_augmentation_are_those_of_the_seed_for_all_methods():
    """With a rate of 0 all methods stay where they are, so only the noise can differ."""
    same = {"train_examples": None, "valid_examples": None, "hyper": {"lr": 0.0}}
    losses = {
        (method, seed): [
            record["train_loss"] for record in whole(make(method, seed=seed, **same))[0]
        ]
        for method, seed in itertools.product(("SGD", "Adam"), (0, 1))
    }
    assert losses["SGD", 0] == losses["Adam", 0]
    assert losses["SGD", 0] != losses["SGD", 1]
    _, second, third, _ = losses["SGD", 0]
    assert second != third


def test_a_run_until_a_loss_goes_on():
    run = make(hyper={"lr": 0.5}, epochs=5, until=Until(minibatch_loss=1.5, max_steps=14))
    records, _ = undisturbed = whole(run)
    reached = records[-1]["target_step"]
    assert 1 < reached < 14
    for at in range(1, reached):
        assert_same(interrupted(run, at), undisturbed)


def test_checkpoints_have_the_keys_of_earlier_versions():
    """A run that another version began must go on: what a checkpoint calls things is a format."""
    run = make("SGD")
    training = Training(run, initial_model(run), TASKS[run.task].load())
    assert training.state().keys() == {
        *("model", "optimizer", "schedule", "augmentation", "dropout", "epoch", "made"),
        *("target_step", "losses", "rates", "answers", "seconds"),
    }
