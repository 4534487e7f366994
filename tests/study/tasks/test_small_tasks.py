"""The small tasks of many kinds: they train, repeat, and are what they say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

from hypergradient.study.declare.run import Run
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.data.generated import mnist1d, ratings
from hypergradient.study.tasks.data.sklearn_files import digits, noisy_digits
from hypergradient.study.tasks.data.text import CHARACTERS, characters
from hypergradient.study.tasks.losses import constant_baseline_loss
from hypergradient.study.tasks.models.small import CharacterTransformer, Factors
from hypergradient.study.tasks.registry import TASKS, task_identity
from hypergradient.study.train.ensemble import Ensemble
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import train

SMALL = [*TASKS][[*TASKS].index("noisy-digits-mlp") :]
FEW = 96


def images(*shape) -> Data:
    """Random images in place of those that are in files."""
    random = np.random.default_rng(0)
    parts = []
    for count in (FEW, 32):
        classes = random.integers(0, 10, count)
        noise = random.normal(size=(count, *shape))
        parts += [
            (noise + 0.3 * classes.reshape(-1, *[1] * len(shape))).astype(np.float32),
            classes,
        ]
    return Data(*parts)


STAND_INS = {
    "mnist": lambda: images(784),
    "cifar10-part": lambda: images(3, 32, 32),
    "mnist1d": lambda: mnist1d(None, 120),  # and not 5,000, which take seconds
}


def load(task) -> Data:
    dataset = TASKS[task].dataset
    return STAND_INS[dataset]() if dataset in STAND_INS else TASKS[task].load()


def make(task, method="Adam", seed=0, lr=3e-3, **fields) -> Run:
    shape = {"epochs": 2, "batch_size": 16, "train_examples": FEW, "valid_examples": 32}
    return Run(
        task=task,
        method=method,
        hyper={"lr": lr},
        seed=seed,
        study_seed=0,
        weight_decay=0.0,
        whole_train_loss=True,
        **(shape | fields),
    )


def records_of(run, dataset):
    model = initial_model(run)
    found = list(train(run, model, dataset))
    return [(r.train_loss, r.valid_loss, r.train_accuracy, r.valid_accuracy) for r in found], model


@pytest.mark.parametrize("task", SMALL)
def test_a_small_task_trains_and_repeats(task):
    dataset = load(task)
    (first, _), (again, _) = (records_of(make(task), dataset) for _ in range(2))
    other, _ = records_of(make(task, seed=1), dataset)
    assert np.array_equal(first, again, equal_nan=True)
    assert not np.array_equal(first, other, equal_nan=True)
    assert first[-1][0] < first[0][0]
    classes = not np.issubdtype(dataset.train_y.dtype, np.floating)
    assert all(math.isfinite(accuracy) == classes for record in first for accuracy in record[2:])


def test_the_new_fields_are_in_no_old_identity():
    assert all("loss" not in task_identity(name) for name in TASKS if name not in SMALL)
    assert task_identity("diabetes-mlp")["loss"] == "mean squared error"


def test_a_stack_needs_the_cross_entropy():
    with pytest.raises(ValueError, match="stacked=True needs the cross-entropy, not the mean"):
        replace(TASKS["diabetes-mlp"], stacked=True)


@pytest.mark.parametrize(
    ("task", "loss"), [("breast-cancer-mlp", cross_entropy), ("digits-autoencoder", mse_loss)]
)
def test_the_whole_training_loss_is_a_loop_over_its_examples(task, loss):
    dataset, run = load(task), make(task, epochs=1)
    records, model = records_of(run, dataset)
    used = dataset.subset(FEW, 32)
    each = [
        loss(model(x[None]), y[None]).item()
        for x, y in zip(
            torch.from_numpy(used.train_x).unbind(), torch.from_numpy(used.train_y), strict=True
        )
    ]
    assert records[-1][0] == pytest.approx(sum(each) / FEW, rel=1e-5)


def test_stacked_runs_have_the_whole_training_loss_of_lone_ones():
    run = make("digits-mlp")
    lone, _ = records_of(run, dataset := load("digits-mlp"))
    stack = Ensemble([run], dataset)
    together = [
        (r.train_loss, r.valid_loss, r.train_accuracy, r.valid_accuracy)
        for _, r, _ in stack.train()
    ]
    assert np.allclose(lone, together, rtol=1e-5)


def test_no_constant_is_better_than_the_best():
    random = np.random.default_rng(0)
    classes = torch.from_numpy(random.choice(3, 200, p=[0.6, 0.3, 0.1]))
    numbers = torch.from_numpy(random.normal(3, 2, (200, 2)))
    shares = torch.bincount(classes) / 200
    for targets, best, loss in (
        (classes, shares.log().double(), cross_entropy),
        (numbers, numbers.mean(0), mse_loss),
    ):
        least = constant_baseline_loss(targets)
        assert loss(best.expand(200, -1), targets).item() == pytest.approx(least)
        for _ in range(20):
            other = best + torch.from_numpy(random.normal(size=len(best)))
            assert loss(other.expand(200, -1), targets).item() > least


def test_factors_are_a_matrix_product():
    model = Factors(5, 7, 3)
    product = model.rows.weight @ model.columns.weight.T
    every = torch.cartesian_prod(torch.arange(5), torch.arange(7))
    assert torch.allclose(model(every), product.flatten())


def test_the_transformer_does_not_see_what_follows():
    torch.manual_seed(0)
    model = CharacterTransformer(9, 8, 16, 2, 2)
    x = torch.randint(9, (4, 8))
    other = x.clone()
    other[:, 5:] = (x[:, 5:] + 1) % 9
    same = torch.isclose(model(x), model(other), atol=1e-6).all(1).all(0)
    assert same.tolist() == [True] * 5 + [False] * 3


def test_noise_is_in_the_training_labels_alone_and_always_the_same():
    clean, noisy = digits(None), noisy_digits(None)
    changed = (clean.train_y != noisy.train_y).mean()
    assert 0.15 < changed < 0.21  # 20% are drawn, a tenth of them as they were
    assert np.array_equal(clean.valid_y, noisy.valid_y)
    assert np.array_equal(noisy.train_y, noisy_digits(None).train_y)


def test_a_character_is_followed_by_the_next_one():
    found = characters(None)
    assert np.array_equal(found.train_x[:, 1:], found.train_y[:, :-1])
    assert found.train_x.max() < CHARACTERS


def test_ratings_are_of_low_rank_and_none_is_in_both_parts():
    found = ratings(None)
    places = [*map(tuple, found.train_x), *map(tuple, found.valid_x)]
    assert len(set(places)) == len(places)
    matrix = np.random.default_rng(0)  # the order of draws is the definition
    users, items = matrix.normal(size=(200, 4)), matrix.normal(size=(200, 4))
    rows, columns = found.train_x.T
    rest = found.train_y - (users[rows] * items[columns]).sum(1) / 2
    assert rest.std() == pytest.approx(0.1, rel=0.05)


def test_raw_units_are_left_as_they_are():
    assert load("breast-cancer-mlp").train_x.max() > 1000
    assert load("diabetes-mlp").train_y.min() >= 25


def test_mnist1d_leaves_the_random_generators_alone():
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    mnist1d(None, 20)
    assert np.random.random() == expected  # noqa: NPY002
