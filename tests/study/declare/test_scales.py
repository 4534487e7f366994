"""Scales, zips and schedules: what a study's file can say, and what is wrong with it."""

import pytest

from hypergradient.study.declare.load import load_study
from hypergradient.study.errors import StudyError
from hypergradient.study.results.collect import collect
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.tasks.registry import find_task

STUDY = """
title = "Scaled"
tasks = ["digits-logreg", "digits-mlp"]
batch_size = 64

[scale.paper]
epochs = 9
seeds = [0, 1, 2, 3, 4]

[scale.laptop]
time = "a second"
epochs = { digits-logreg = 2, digits-mlp = 1 }
seeds = [0]
train_examples = 200
valid_examples = { digits-logreg = 100, digits-mlp = 50 }
decay_epochs = 1

[[scale.laptop.methods]]
names = "SGD"
schedule = ["constant", "lr-decay"]
grid = { lr = 0.1 }

[[methods]]
names = ["SGD", "Adam"]
schedule = ["constant", "lr-decay"]
grid = { lr = [0.1, 0.01] }

[[methods]]
names = "SGD-HD"
grid = { granularity = ["group", "tensor"] }
zip = { lr = [0.1, 0.01, 0.001], hypergrad_lr = [1e-3, 1e-4, 1e-5] }
"""


@pytest.fixture
def load(tmp_path):
    def write_and_load(text=STUDY, scale=None):
        (tmp_path / "scaled.toml").write_text(text, encoding="utf-8")
        return load_study(tmp_path / "scaled.toml", scale)

    return write_and_load


def test_paper_scale_is_every_combination(load):
    study = load(scale="paper")
    runs = study.runs()
    assert len(runs) == 5 * 2 * (2 * 2 * 2 + 2 * 3)
    assert {run.epochs for run in runs} == {9}
    assert {run.train_examples for run in runs} == {None}
    pairs = {(r.hyper["lr"], r.hyper["hypergrad_lr"]) for r in runs if r.method == "SGD-HD"}
    assert pairs == {(0.1, 1e-3), (0.01, 1e-4), (0.001, 1e-5)}
    assert {run.schedule for run in runs if run.method == "SGD-HD"} == {"hypergradient"}


def test_laptop_scale_is_the_default_and_changes_what_it_says(load):
    study = load()
    assert (study.scale, study.time) == ("laptop", "a second")
    shapes = {
        (r.task, r.schedule, r.epochs, r.valid_examples, r.decay_epochs) for r in study.runs()
    }
    assert shapes == {
        ("digits-logreg", "constant", 2, 100, None),
        ("digits-logreg", "lr-decay", 2, 100, 1),
        ("digits-mlp", "constant", 1, 50, None),
        ("digits-mlp", "lr-decay", 1, 50, 1),
    }


def test_a_scale_may_set_the_batch_size_of_each_task(load):
    text = STUDY.replace(
        "[scale.laptop]", "[scale.laptop]\nbatch_size = { digits-logreg = 40, digits-mlp = 8 }"
    )
    assert {(r.task, r.batch_size) for r in load(text).runs()} == {
        ("digits-logreg", 40),
        ("digits-mlp", 8),
    }
    assert {r.batch_size for r in load(text, "paper").runs()} == {64}
    with pytest.raises(StudyError, match="nothing for the task digits-mlp"):
        load(text.replace(", digits-mlp = 8 }", " }"))


def test_what_two_scales_have_in_common_is_one_run(load):
    """The id holds what a scale changes, not its name."""
    text = STUDY.replace("epochs = 9", "epochs = 2").replace("train_examples = 200\n", "")
    text = text.replace("valid_examples = {", "# {").replace("decay_epochs = 1", "")
    small, large = ({run.id for run in load(text, scale).runs()} for scale in ("laptop", "paper"))
    assert len(small) == 4
    assert len(small & large) == 2  # logistic regression, for which the epochs are the same


def test_the_scale_is_a_column(load, tmp_path):
    study, store = load(), Store(tmp_path / "results")
    work(study.runs(), store, None)
    runs, epochs = collect(study, store)
    assert set(runs["scale"]) == {"laptop"}
    assert runs["schedule"].to_list() == ["constant", "lr-decay"] * 2
    assert runs["train_examples"].to_list() == [200] * 4
    last = epochs.group_by("run_id", maintain_order=True).last()
    assert last["step"].to_list() == [8, 8, 4, 4]


def test_an_unknown_scale_names_those_there_are(load):
    with pytest.raises(StudyError, match="no scale 'huge'; declared: paper, laptop"):
        load(scale="huge")


def test_a_subset_is_spread_evenly_over_the_examples():
    data = find_task("digits-logreg").load()
    part = data.subset(100, None)
    assert len(part.train_y) == 100
    assert len(part.valid_y) == 360
    places = [i * 1437 // 100 for i in range(100)]
    assert (part.train_x == data.train_x[places]).all()
    assert (part.train_y == data.train_y[places]).all()
    assert data.subset(10_000, None) is data


WRONG = {
    "time = ": ("colour = 3\ntime = ", "scale.laptop.colour: "),
    "epochs = 9": ("epochs = 0", "scale.paper.epochs: 0 is not an integer from 1 to 1,000,000,000"),
    "digits-mlp = 1 ": ("digits-mpl = 1 ", "scale.laptop.epochs: nothing for the task digits-mlp"),
    "digits-mlp = 50": (
        "digits-mlp = 50, x = 1",
        "scale.laptop.valid_examples: x is none of the study's tasks",
    ),
    "grid = { lr = 0.1 }": (
        "grid = { lr = -1 }",
        "scale.laptop.methods.0: SGD: Invalid learning rate: -1.0",
    ),
    "[1e-3, 1e-4, 1e-5]": ("[1e-3]", "methods.1: zip: lists of one length are needed, not lr 3"),
    'granularity = ["group", "tensor"]': ("lr = 1", "methods.1: lr is in both grid and zip"),
    'schedule = ["constant", "lr-decay"]\ngrid = { lr = [': (
        'schedule = "decay"\ngrid = { lr = [',
        "methods.0.schedule.0: schedule 'decay' is not known; did you mean lr-decay?",
    ),
    'names = "SGD-HD"': (
        'schedule = "cosine"\nnames = "SGD-HD"',
        "methods.1: SGD-HD: schedule 'cosine' does not go with it; use hypergradient",
    ),
    "[scale.paper]": (
        'figures = ["curves", "pie"]\n[scale.paper]',
        "figures: pie is not known; choose from beside, compare",
    ),
    "batch_size = 64": (
        "batch_size = 64\nuntil = { minibatch_loss = nan, max_steps = 0 }",
        "until.minibatch_loss: ",
    ),
}


@pytest.mark.parametrize(("old", "new", "said"), [(o, *rest) for o, rest in WRONG.items()])
def test_what_is_wrong_is_told_once_with_its_place(load, tmp_path, old, new, said):
    assert old in STUDY
    with pytest.raises(StudyError) as error:
        load(STUDY.replace(old, new))
    lines = str(error.value).splitlines()
    assert sum(line.startswith(f"{tmp_path / 'scaled.toml'}: {said}") for line in lines) == 1, lines
