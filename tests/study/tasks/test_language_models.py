"""Language models, whose every epoch has windows of a text that were not seen before."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_small_tasks import make

from hypergradient.study.declare.load import built_in_studies, load_study
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.data.text import CHARACTERS, WINDOW, library, text_windows, topics
from hypergradient.study.tasks.registry import TASKS, task_identity
from hypergradient.study.train.batches import EpochBatches
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import Training, train

TASK = "topics-lm"


@pytest.fixture(scope="module")
def dataset() -> Data:
    return topics(None)


def examples_of(run, dataset, epoch) -> list[int]:
    batches = EpochBatches(run, dataset)
    batches.begin_epoch(epoch)
    return batches.order.tolist()


def test_each_epoch_draws_its_windows_anew_and_all_methods_have_the_same(dataset):
    run = make(TASK)
    first, second = (examples_of(run, dataset, epoch) for epoch in (1, 2))
    assert len(first) == len(set(first)) == run.train_examples
    assert not set(first) & set(second)  # 96 of 400,000
    assert examples_of(make(TASK, method="SGD"), dataset, 2) == second
    assert examples_of(make(TASK, seed=1), dataset, 2) != second
    assert EpochBatches(run, dataset).steps_per_epoch == 6


def test_steps_have_different_windows_and_their_own_next_characters(dataset):
    batches = EpochBatches(make(TASK), dataset)
    seen = []
    for step in range(batches.steps_per_epoch):
        batches.step_in_epoch = step
        inputs, targets = batches.batch()
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        seen += [tuple(window.tolist()) for window in inputs]
    assert len(set(seen)) > 0.95 * len(seen)


def test_a_part_that_is_not_resampled_is_the_same_in_all_epochs(monkeypatch, dataset):
    monkeypatch.setitem(TASKS, TASK, replace(TASKS[TASK], resampled=False))
    batches = EpochBatches(make(TASK), dataset)
    assert len(batches.train_x) == batches.run.train_examples
    orders = []
    for epoch in (1, 2):
        batches.begin_epoch(epoch)
        orders.append(batches.order.tolist())
    assert sorted(orders[0]) == sorted(orders[1])


def test_windows_share_memory_and_none_is_in_both_parts():
    texts = [np.arange(100 * i, 100 * i + 30) for i in range(10)]
    found = text_windows(texts, 4, 2)
    assert found.train_x[1].tolist() == [2, 3, 4, 5]
    assert found.train_y[1].tolist() == [3, 4, 5, 6]
    assert np.shares_memory(found.train_x[0], found.train_x[1])
    assert found.valid_x.tolist() == [[*range(at, at + 4)] for at in range(900, 928, 4)]
    assert found.valid_y.min() == 901
    assert found.train_y.max() < 900


def test_the_texts_are_those_that_come_with_python(dataset):
    assert dataset.train_x.shape[1] == WINDOW
    assert dataset.train_x.max() == CHARACTERS - 1
    assert np.array_equal(dataset.train_x[1:, 0], dataset.train_y[:-1, 0])
    code = library(None)
    assert code.train_x.shape[1] == TASKS["library-gpt2-small"].arguments[1]
    assert len(code.valid_x) > 100


def test_the_study_expands_at_both_scales():
    path = built_in_studies()["untuned-lm"]
    for scale, seeds in (("laptop", 2), ("paper", 3)):
        runs = load_study(path, scale).runs()
        assert len(runs) == 11 * seeds
        assert {run.task for run in runs} == {*load_study(path, scale).tasks}
    assert task_identity(TASK)["resampled"] is True
    assert "resampled" not in task_identity("character-transformer")


def test_it_trains_repeats_and_goes_on_to_the_bit(dataset):
    run, kept = make(TASK, "Untuned", epochs=3), []
    run = run.model_copy(update={"hyper": {}, "whole_train_loss": False})

    def keep(training):
        if training.step == 8:  # in the second epoch
            file = io.BytesIO()
            torch.save(training.state(), file)
            kept.append(file.getvalue())

    def numbers(**options):
        records = train(run, initial_model(run), dataset, **options)
        return [(r.epoch, r.train_loss, r.train_accuracy, r.valid_loss) for r in records]

    whole = numbers(after_step=keep)
    assert whole == numbers()
    assert whole[-1][3] < whole[0][3]
    saved = torch.load(io.BytesIO(kept[0]), weights_only=True)
    assert numbers(saved=saved) == whole[2:]


def test_predictions_are_kept_of_an_epoch_alone(dataset):
    run = make(TASK)
    buffer = Training(run, initial_model(run), dataset).metrics
    assert buffer.state()["answers"].shape == (run.train_examples, WINDOW)
