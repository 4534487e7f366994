"""A study file is checked in one pass; a run's id is its content and its seeds its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hypergradient.study.declare.load import built_in_studies, find_study, load_study
from hypergradient.study.declare.run import RESULTS_VERSION, Run, fingerprint
from hypergradient.study.errors import StudyError
from hypergradient.study.methods.registry import METHODS, Method, method_identity
from hypergradient.study.tasks.registry import task_identity

WRONG = """
title = "Wrong in many places"
tasks = ["digits-logrge"]
seeds = [-1]
epochs = 0
batch_size = 128
colour = "red"
published = "nothing.csv"

[[methods]]
names = ["SDG"]
grid = {{ lr = [0.1] }}

[[methods]]
names = ["SGD"]
grid = {{ lr = [nan], momentum = [] }}

[[methods]]
names = ["SGD-HD"]
grid = {{ lr = [0.1], hypergrad_lr = [-1] }}

[[methods]]
names = ["Adam"]
grid = {{ lr = [0.1], hypergrad_lr = [1e-3], momentum = 0.9 }}

[[methods]]
names = ["SGDN"]
grid = {{ lr = [0.1], nesterov = [false], weight_decay = 0.1 }}
"""


def test_all_errors_of_a_study_are_told_at_once_one_line_each(study_file):
    path = study_file(WRONG)
    with pytest.raises(StudyError) as error:
        load_study(path)
    lines = str(error.value).splitlines()
    wanted = [
        "tasks.0: task 'digits-logrge' is not known; did you mean digits-logreg?",
        "seeds.0: ",
        "epochs: ",
        "colour: ",
        "published: no file nothing.csv",
        "methods.0.names.0: method 'SDG' is not known; did you mean SGD",
        "methods.1.grid.lr.0: nan is not a finite number",
        "methods.1.grid.momentum: is empty",
        "methods.2: SGD-HD: hypergrad_lr=-1.0",
        "methods.3: Adam: no option hypergrad_lr, momentum",
        "methods.4: SGDN: nesterov, weight_decay cannot be set in a grid",
    ]
    for text in wanted:
        assert sum(line.startswith(f"{path}: {text}") for line in lines) == 1, (text, lines)
    assert len(lines) == len(wanted)


SEVERAL_FAULTS_IN_ONE_TABLE = """
tasks = ["digits-logreg"]
seed = [0]

[[methods]]
names = ["AdamW-HDD", "SGDN", "SGD-HD"]
grids = {{ lr = [0.1] }}
schedule = ["cosin"]
grid = {{ lr = [0.1], momentun = [0.9], hypergrad_lrr = [1e-3], nesterov = [true], wd = ["x", []] }}
"""


def test_all_faults_of_a_table_are_told_at_once_with_what_was_meant(study_file):
    path = study_file(SEVERAL_FAULTS_IN_ONE_TABLE)
    with pytest.raises(StudyError) as error:
        load_study(path)
    told = [line.removeprefix(f"{path}: ") for line in str(error.value).splitlines()]
    start, meant = "methods.0", "hypergrad_lrr (did you mean hypergrad_lr?)"
    wanted = [
        "seed: is not known; did you mean seeds?",
        f"{start}.grids: is not known; did you mean grid?",
        f"{start}.names.0: method 'AdamW-HDD' is not known; did you mean AdamW-HD?",
        f"{start}.schedule.0: schedule 'cosin' is not known; did you mean cosine?",
        f"{start}: SGDN: no option momentun (did you mean momentum?), hypergrad_lrr",
        f"{start}: SGD-HD: no option momentun (did you mean momentum?), {meant}",
        f"{start}: SGDN: nesterov cannot be set in a grid: the method or study fixes it",
    ]
    assert not [line for line in wanted if line not in told], told


def test_only_some_fields_change_with_the_scale(study_file):
    path = study_file("\n[scale.small]\ntitle = 'b'\nepoch = 3\n")
    with pytest.raises(StudyError) as error:
        load_study(path)
    assert f"{path}: scale.small.title: cannot change" in str(error.value)
    assert f"{path}: scale.small.epoch: did you mean epochs?" in str(error.value)


@pytest.mark.parametrize("text", ["title = ", "title = 'caf\udce9'"], ids=["syntax", "encoding"])
def test_a_file_that_is_no_toml_is_told_in_one_line(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(StudyError, match=r"bad\.toml") as error:
        load_study(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", built_in_studies())
def test_built_in_studies_are_valid(name):
    assert load_study(find_study(name)).runs()


def test_the_demo_has_every_combination_once():
    runs = load_study(find_study("demo")).runs()
    assert len(runs) == 2 * (6 * 7 + 1) * 3  # the rates of six methods, and one without a rate
    assert len({run.id for run in runs}) == len(runs)


def test_unknown_study_suggests_a_close_name():
    with pytest.raises(StudyError, match="did you mean demo"):
        find_study("dmeo")


def test_runs_and_ids_are_the_same_each_time(study_file: Callable[..., Path]):
    path = study_file()
    first, second = load_study(path).runs(), load_study(path).runs()
    assert first == second
    assert [run.id for run in first] == [run.id for run in second]


def test_an_id_survives_json(small):
    for run in small.runs():
        assert Run.model_validate_json(run.model_dump_json()).id == run.id


def test_overlapping_grids_give_a_run_once(study_file):
    twice = '\n[[methods]]\nnames = "SGD"\ngrid = {{ lr = [1e-3, 1] }}\n'
    text = study_file().read_text(encoding="utf-8").replace("{", "{{").replace("}", "}}")
    assert len(load_study(study_file(text + twice)).runs()) == 12 + 2


CHANGES = {
    "task": "digits-mlp",
    "method": "SGDN",
    "hyper": {"lr": 0.5},
    "seed": 7,
    "study_seed": 7,
    "epochs": 7,
    "batch_size": 7,
    "weight_decay": 0.5,
    "schedule": "cosine",
    "train_examples": 7,
    "valid_examples": 7,
    "decay_epochs": 7,
    "until": {"minibatch_loss": 0.5, "max_steps": 7},
    "steps": 7,
    "whole_train_loss": True,
    "device": "cuda",
    "autocast": "bfloat16",
    "channels_last": True,
    "threads": 2,
    "results_version": RESULTS_VERSION + 1,
}


def test_changes_name_every_field_of_a_run():
    assert CHANGES.keys() == Run.model_fields.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_an_id_depends_on_each_field(small, field):
    run = small.runs()[0]
    changed = Run.model_validate(run.model_dump() | {field: CHANGES[field]})
    assert changed.model_dump() != run.model_dump()
    assert changed.id != run.id


def test_an_id_is_that_of_before_there_were_later_fields(small):
    run = small.runs()[0]
    content = run.model_dump(mode="json")
    assert content.pop("whole_train_loss") is False
    assert content.pop("steps") is None
    assert content.pop("device") == "cpu"
    assert content.pop("autocast") is None
    assert content.pop("channels_last") is False
    content["engine"] = content.pop("results_version")  # as it was called at first
    names = {"task": task_identity(run.task), "method": method_identity(run.method)}
    assert run.id == fingerprint(content | {"names": names})[:16]


def test_an_id_depends_on_what_a_name_stands_for(small, monkeypatch):
    run = next(run for run in small.runs() if run.method == "SGD")
    before = run.id
    monkeypatch.setitem(METHODS, "SGD", Method("torch.optim:SGD", {"momentum": 0.5}))
    assert Run.model_validate(run.model_dump()).id != before


def test_integers_and_floats_are_one_run(small):
    run = small.runs()[0]
    one, also = (
        Run.model_validate(run.model_dump() | {"hyper": {"lr": value}}) for value in (1, 1.0)
    )
    assert one.id == also.id


def test_seeds_depend_on_seed_and_purpose_never_on_the_method(small):
    seeds = {}
    for run in small.runs():
        for purpose in ("initialisation", "batches"):
            seeds.setdefault((run.seed, purpose), set()).add(run.derive_seed(purpose))
    assert all(len(values) == 1 for values in seeds.values())
    assert len(set.union(*seeds.values())) == 4
