"""Stacked runs: the numbers of runs one by one, whoever is beside them, and wherever they stop."""

import io
import math
from dataclasses import replace

import pytest
import torch

from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import Run, Until
from hypergradient.study.results.collect import collect
from hypergradient.study.run import plan, worker
from hypergradient.study.run.guard import MOST_DEATHS
from hypergradient.study.run.plan import costs
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.tasks.registry import TASKS, task_identity
from hypergradient.study.train.ensemble import Ensemble
from hypergradient.study.train.groups import MOST, group_runs
from hypergradient.study.train.initial import initial_model
from hypergradient.study.train.training import train


def make(method="SGD", task="digits-logreg", lr=0.01, **fields) -> Run:
    """A run of 3 epochs of 3 steps."""
    hyper = {"lr": lr} | {name: fields.pop(name) for name in HYPER & fields.keys()}
    schedule = "hypergradient" if method.endswith("-HD") else "constant"
    shape = {"epochs": 3, "batch_size": 64, "train_examples": 150, "valid_examples": 50}
    fixed = {"seed": 0, "study_seed": 0, "weight_decay": 1e-4, "schedule": schedule}
    return Run(task=task, method=method, hyper=hyper, **(shape | fixed | fields))


HYPER = {"hypergrad_lr", "lr_bounds", "rule", "product", "granularity", "nesterov"}
BETA = {"SGD": 1e-3, "SGDN": 1e-3, "Adam": 1e-5, "AdamW": 1e-5}


def family(method, **fields) -> list[Run]:
    """Runs of one class: base and HD, and one that diverges."""
    hd = {"hypergrad_lr": BETA[method], **fields}
    return [
        *(make(method, lr=lr, **fields) for lr in (1e-3, 1e-2, 1e38)),
        *(make(f"{method}-HD", lr=lr, lr_bounds="none", **hd) for lr in (1e-3, 1e-2)),
    ]


def plain(record):
    """What a record says but for its time; a NaN equals a NaN."""
    return {
        name: "nan" if isinstance(value, float) and math.isnan(value) else value
        for name, value in vars(record).items()
        if name != "seconds"
    }


def stacked(runs, saved=(), after_step=lambda _: None):
    """The records of each run by its id, trained together."""
    records = {run.id: [] for run in runs}
    stack = Ensemble(runs, TASKS[runs[0].task].load(), saved)
    for run, record, last in stack.train(after_step):
        records[run.id].append(plain(record))
        assert last == (record.epoch == 3 or not ends_later(record))
    return records


def ends_later(record):
    return record.diverged_at_step is None and record.target_step is None


def alone(run):
    return [plain(record) for record in train(run, initial_model(run), TASKS[run.task].load())]


@pytest.mark.parametrize("task", ["digits-logreg", "digits-mlp"])
@pytest.mark.parametrize("method", BETA)
def test_a_stack_has_the_numbers_of_its_runs_one_by_one(method, task):
    runs = family(method, task=task)
    assert group_runs(runs) == [[*runs[3:], *runs[:3]]]
    together = stacked(group_runs(runs)[0])
    for run in runs:
        for ours, theirs in zip(together[run.id], alone(run), strict=True):
            for name in ("epoch", "step", "diverged_at_step"):
                assert ours[name] == theirs[name]
            if ours["diverged_at_step"] is None:
                assert ours["train_accuracy"] == theirs["train_accuracy"]
                for name in ("train_loss", "valid_loss", "lr_mean", "lr_min", "lr_max"):
                    assert ours[name] == pytest.approx(theirs[name], rel=1e-5)


def test_members_leave_at_their_targets_one_by_one():
    fields = {"until": Until(minibatch_loss=1.9, max_steps=8), "epochs": 4}
    runs = [*family("SGD", **fields), *(make(lr=lr, **fields) for lr in (0.05, 0.1, 0.5))]
    together = stacked(group_runs(runs)[0])
    ends = set()
    for run in runs:
        theirs = alone(run)
        last = theirs[-1]
        ends.add(last["target_step"])
        for ours, other in zip(together[run.id], theirs, strict=True):
            for name in ("epoch", "step", "target_step", "diverged_at_step"):
                assert ours[name] == other[name]
    assert len(ends) >= 3


@pytest.mark.parametrize("task", ["digits-logreg", "digits-mlp"])
@pytest.mark.parametrize("method", BETA)
def test_a_run_has_the_same_numbers_in_any_company(method, task):
    """Bit for bit: so it does not matter who else is left, or has diverged."""
    runs = group_runs(family(method, task=task))[0]
    together = stacked(runs)
    for company in (runs[:1], runs[1:3], runs[::-1], [*runs[2:], make(method, task, 0.1)]):
        found = stacked(company)
        assert {run.id: found[run.id] for run in company if run in runs} == {
            run.id: together[run.id] for run in company if run in runs
        }


@pytest.mark.parametrize("method", BETA)
def test_a_stack_goes_on_from_every_step(method):
    fields = {"until": Until(minibatch_loss=1.9, max_steps=8)}
    (runs,) = group_runs([*family(method, **fields), make(method, lr=0.1, **fields)])
    undisturbed = stacked(runs)
    assert 1 < undisturbed[runs[-1].id][-1]["target_step"] < 8
    for at in range(1, 8):
        kept = io.BytesIO()
        records = {run.id: [] for run in runs}

        def stop(stack, at=at, kept=kept):
            if stack.step == at and not kept.tell():
                torch.save(stack.states(), kept)
                raise KeyboardInterrupt

        stack = Ensemble(runs, TASKS["digits-logreg"].load())
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012
            for run, record, _ in stack.train(stop):
                records[run.id].append(plain(record))
        kept.seek(0)
        saved = torch.load(kept, weights_only=True)
        left = [run for run in runs if run.id in saved]
        resumed = stacked(left[::-1], [saved[run.id] for run in left[::-1]])
        for run in runs:
            assert records[run.id] + resumed.get(run.id, []) == undisturbed[run.id]


def test_who_is_stacked_with_whom():
    base, hd, bounded = make(), make("SGD-HD", lr_bounds="none"), make("SGD-HD")
    assert group_runs([base, hd]) == [[hd, base]]
    assert group_runs([base, hd, bounded]) == [[hd, base], [bounded]]
    for other in (
        make(seed=1),
        make(epochs=4),
        make(batch_size=32),
        make(weight_decay=0.0),
        make(train_examples=100),
        make("SGDN"),
        make("Adam"),
        make(nesterov=False),
    ):
        assert group_runs([base, other]) == [[base], [other]]
    many = [make(lr=0.01 + i / 1000) for i in range(2 * MOST + 2)]
    lengths = sorted(map(len, group_runs(many)))
    assert (sum(lengths), len(lengths)) == (2 * MOST + 2, 3)
    assert max(lengths) <= MOST
    assert max(lengths) - min(lengths) <= 1
    assert group_runs([base, hd], alone={hd.id}) == [[base], [hd]]


def test_who_is_trained_one_by_one(tmp_path):
    runs = [
        make(schedule="cosine"),
        make("SGD-HD", granularity="element"),
        make("RMSprop"),
        make(task="mnist-mlp"),
    ]
    assert group_runs(runs) == [[run] for run in runs]
    store, others = Store(tmp_path), [make(), make(lr=0.1), make("SGD-HD")]
    work([*runs[:3], *others], store, None)
    found = [store.status(run)["engine"] for run in (*runs[:3], *others)]
    assert found == ["one by one"] * 3 + ["stacked"] * 3


def test_the_engine_is_a_column(small, tmp_path):
    store = Store(tmp_path)
    work(small.runs(), store, None)
    runs, _ = collect(small, store)
    assert set(runs["engine"]) == {"stacked"}
    assert len(set(runs["init_hash"])) == 2


def test_only_what_is_stacked_has_another_id():
    """So that what was trained before this was possible need not be trained again."""
    assert "stacked" not in task_identity("mnist-mlp")
    assert task_identity("mnist-logreg")["stacked"] is True


def test_a_suspect_is_trained_alone(small, tmp_path, monkeypatch):
    """Its third death is then nobody else's."""
    runs, store, seen = small.runs()[:4], Store(tmp_path), []
    store.folder_of(runs[0]).mkdir(parents=True)
    (store.folder_of(runs[0]) / "lock").write_bytes(b"x" * (MOST_DEATHS - 1))
    monkeypatch.setattr(
        worker, "train_claimed", lambda claims, *_: seen.append([run.id for run, _ in claims])
    )
    work(runs, store, None)
    assert [runs[0].id] in seen
    assert all(runs[0].id not in unit for unit in seen if len(unit) > 1)


def test_a_model_that_cannot_be_stacked_says_so(monkeypatch):
    network = torch.nn.Sequential(torch.nn.Linear(64, 10), torch.nn.Dropout())
    task = replace(TASKS["digits-logreg"], network=lambda: network, arguments=())
    monkeypatch.setitem(TASKS, "digits-logreg", task)
    monkeypatch.setattr("hypergradient.study.declare.run.task_identity", lambda _: {})
    with pytest.raises(ValueError, match=r"digits-logreg: stacked=True .* has Dropout"):
        Ensemble([make()], task.load())


def test_the_plan_measures_a_stack(monkeypatch):
    monkeypatch.setattr(plan, "PROBE_SECONDS", 0.0)
    (cost,) = costs([make(lr=lr) for lr in (0.1, 0.2, 0.3)], None)
    assert (cost.runs, cost.method) == (3, "SGD")
    assert 0 < cost.step_seconds < cost.run_seconds


def test_a_study_on_disk_has_the_numbers_of_a_stack(study_file, tmp_path):
    runs, store = load_study(study_file(epochs=3)).runs(), Store(tmp_path / "out")
    work(runs[::2], store, None)
    work(runs, store, None)
    whole = Store(tmp_path / "whole")
    work(runs, whole, None)
    for run in runs:
        ours, theirs = store.records(run), whole.records(run)
        assert [line | {"seconds": 0} for line in ours] == [
            line | {"seconds": 0} for line in theirs
        ]
        seconds = sum(line["seconds"] for line in ours)
        assert store.status(run)["wall_seconds"] == pytest.approx(seconds)
