"""Comparing optimizers on a person's own task, from a file and from objects."""

import copy
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hypergradient.study import Data, compare
from hypergradient.study.comparison import rounds
from hypergradient.study.comparison.rounds import rates_beyond
from hypergradient.study.declare.run import Run
from hypergradient.study.errors import StudyError
from hypergradient.study.tasks.own import read_task
from hypergradient.study.tasks.registry import IN_PROCESS, InProcess
from hypergradient.study.train.start import start_session

EXAMPLE = Path(__file__).parents[3] / "examples" / "compare_own_task.py"

QUICK = {"seeds": 2, "epochs": 2, "batch_size": 16, "rates": (1e-3, 1e-2, 1e-1)}


def network():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))


def points(count=80):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=generator)
    return x, x[:, :3].argmax(1)


class Augmented(torch.utils.data.Dataset):
    """Examples with noise that is drawn anew each time, by three kinds of random numbers."""

    def __len__(self):
        return 80

    def __getitem__(self, i):
        x, y = points()
        noise = torch.randn(4) + float(np.random.rand())  # noqa: NPY002  (as people write it)
        return x[i] + 0.1 * noise, y[i]


def arrays():
    x, y = points()
    return x.numpy().astype(np.float64), y.numpy().astype(np.int32)


def read_only(*given):
    """The same arrays, as a data frame or a memory map gives them."""
    for array in given:
        array.flags.writeable = False
    return given


LOADER = DataLoader(Augmented(), 16, shuffle=True, num_workers=2, persistent_workers=True)

# With the steps of an epoch in batches of 16: of 80 examples, or of 64 where 16 are held out.
FORMS = {
    "tensors": (points(), 4),
    "a function": (points, 4),
    "arrays": (arrays(), 4),
    "arrays that are only to be read": (read_only(*arrays()), 4),
    "a data frame": ((pl.DataFrame(arrays()[0]), pl.Series(arrays()[1])), 4),
    "train and valid": ((points(), points(30)), 5),
    "four arrays": ((*points(), *points(30)), 5),
    "a Dataset": (TensorDataset(*points()), 4),
    "Datasets": ((Augmented(), TensorDataset(*points(30))), 5),
    "a DataLoader": (DataLoader(TensorDataset(*points()), batch_size=16, shuffle=True), 4),
    "DataLoaders": ((LOADER, TensorDataset(*points(30))), 5),
    "a Data": (Data(*points(), *points(30)), 5),
}


@pytest.fixture
def trained():
    """Train a task that a file would say, and return its records and its session."""

    def call(given, method="AdamW", hyper=None, **fields):
        made = read_task({"model": network} | given, "here")
        IN_PROCESS["mine"] = InProcess(made, "token")
        run = Run(
            task="mine",
            method=method,
            hyper=hyper or {},
            seed=0,
            study_seed=0,
            weight_decay=0.0,
            **{"epochs": 2, "batch_size": 16} | fields,
        )
        session = start_session([run], made.load())
        return [record for _, record, _ in session.train(lambda _: None)], session

    yield call
    IN_PROCESS.pop("mine", None)


@pytest.mark.parametrize("form", FORMS)
def test_data_of_every_form_are_trained_on(form, trained):
    data, steps = FORMS[form]
    records, _ = trained({"data": data})
    assert [record.step for record in records] == [0, steps, 2 * steps]
    assert all(math.isfinite(record.train_loss) for record in records)
    assert records[-1].valid_loss < records[0].valid_loss
    assert 0 <= records[-1].valid_accuracy <= 1


@pytest.mark.parametrize("method", ["AdamW", "Untuned"])
def test_a_run_that_goes_on_in_another_process_has_the_same_numbers(method, trained):
    """A Dataset's random numbers, a loader's order and the dropout are those of one run."""
    given = {"data": FORMS["DataLoaders"][0]}
    whole, session = trained(given, method)
    run, made, states = session.run, session.task, []
    first = start_session([run], made.load())

    def snapshot(now):
        if now.step == 7:  # in the second epoch, of five steps
            states.append(copy.deepcopy(now.state()))

    list(first.train(snapshot))
    (*_, last) = start_session([run], made.load(), states).train(lambda _: None)
    assert replace(last.record, seconds=0.0) == replace(whole[-1], seconds=0.0)


def test_the_cost_of_a_step_is_recorded(trained):
    _, session = trained({"data": points()})
    parameters = 4 * 8 + 8 + 8 * 3 + 3
    cost = session.cost()
    assert cost["state_bytes"] == (2 * 4 * parameters + 4 * 4) / parameters  # Adam's m, v and step
    assert 0 < cost["step_seconds"] < 1


def test_the_cost_counts_whatever_an_optimizer_keeps(trained):
    """MoMo, for one, keeps lists beside the states of its parameters."""
    _, session = trained({"data": points()})
    before = session.cost()["state_bytes"]
    session.optimizer.state["averages"] = [torch.zeros(59), {"more": (torch.zeros(59),), "t": 3}]
    more = 2 * 4 * 59 / (4 * 8 + 8 + 8 * 3 + 3)
    assert session.cost()["state_bytes"] == pytest.approx(before + more)


def test_steps_end_a_run_within_an_epoch(trained):
    records, _ = trained({"data": points()}, epochs=1, steps=3)
    assert [record.step for record in records] == [0, 3]


@pytest.mark.usefixtures("no_page")
def test_all_have_the_same_weights_and_batches(tmp_path):
    seen = {}

    def step(model, batch):
        if model.training:
            seen.setdefault(id(model), (model, []))[1].append(batch[0].double().sum().item())
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    made = compare(
        model=network, data=(Augmented(), Augmented()), training_step=step, out=tmp_path, **QUICK
    )
    by_seed = made.runs.group_by("seed").agg(hashes="init_hash", runs="run_id")
    assert all(len(set(row["hashes"])) == 1 for row in by_seed.iter_rows(named=True))
    orders = [tuple(batches) for model, batches in seen.values() if len(batches) == 10]
    assert len(orders) == made.runs.height
    assert len(set(orders)) == 2  # one a seed
    assert made.runs["init_hash"].n_unique() == 2


def test_a_loss_and_metrics_of_ones_own(tmp_path):
    x = torch.randn(80, 4)
    made = compare(
        model=lambda: nn.Linear(4, 1),
        data=(x, x.sum(1, keepdim=True)),
        loss=nn.functional.mse_loss,
        metrics={"largest": lambda outputs, targets: (outputs - targets).abs().max()},
        out=tmp_path,
        **QUICK,
    )
    assert made.epochs["metric_largest"].null_count() == 0
    assert "largest" in made.page.read_text(encoding="utf-8")
    figure = made.figure("metric_largest", "seconds")
    assert figure.axes[0].get_ylabel() == "Final largest"


@pytest.mark.usefixtures("no_page")
def test_batches_of_any_form_have_a_training_step_and_metrics(tmp_path):
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 80

        def __getitem__(self, i):
            x, y = points()
            return {"x": x[i], "y": y[i]}

    def step(model, batch):
        return nn.functional.cross_entropy(model(batch["x"]), batch["y"])

    made = compare(
        model=network,
        data=Pairs(),
        training_step=step,
        metrics={"count": lambda _, batch: float(len(batch["x"]))},
        out=tmp_path,
        **QUICK,
    )
    assert (made.runs["status"] == "done").all()
    assert made.epochs["metric_count"].max() == 16


@pytest.mark.usefixtures("no_page")
def test_a_comparison_in_a_notebook_shows_its_verdict_and_figure(tmp_path):
    made = compare(model=network, data=points(), out=tmp_path, **QUICK)
    html = made._repr_html_()
    assert "Untuned ended at" in html
    assert "data:image/png;base64," in html
    with pytest.raises(ValueError, match="choose a metric of valid_loss"):
        made.figure("nothing")


@pytest.mark.usefixtures("no_page")
def test_other_optimizers_take_part_with_their_own_rates(tmp_path):
    made = compare(
        model=network, data=points(), out=tmp_path, optimizers=["SGD@0.1,0.5", "NAdam"], **QUICK
    )
    rates = {
        method: part["lr"].unique().sort().to_list()
        for (method,), part in made.runs.group_by("method")
    }
    assert rates["SGD"] == [0.1, 0.5]
    assert rates["NAdam"] == rates["AdamW"]
    assert rates["Untuned"] == rates["AdamW-HD"] == [None]
    schedules = dict(made.runs.select("method", "schedule").unique().iter_rows())
    assert schedules["SGD"] == schedules["AdamW"] == "warmup-cosine"
    assert schedules["Untuned"] == "constant"


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


FILE = """
import torch
from torch import nn

epochs, batch_size = 2, 16

def model():
    return nn.Linear(4, 3)

def data():
    x = torch.randn(80, 4)
    return x, x[:, :3].argmax(1)
"""


@pytest.mark.usefixtures("no_page")
def test_a_file_resumes(own_file):
    name = own_file(FILE, "resumes.py")
    first = compare(name, seeds=1, workers=1, rates=(1e-2,))
    said = []
    again = compare(name, seeds=1, workers=1, rates=(1e-2,), say=said.append)
    count = first.runs.height
    assert said == [f"{count} runs, {count} of them done, in results/compare-resumes"]
    assert again.runs.equals(first.runs)
    assert again.verdict == first.verdict


BAD = {
    "has no model: write `def model()": FILE.replace("def model", "def net"),
    "has no data: write `def data()": FILE.replace("def data", "def load"),
    "model() returns str, not an nn.Module": FILE.replace("return nn.Linear(4, 3)", "return 'no'"),
    "for inputs of shape (16, 4) float32": FILE.replace("nn.Linear(4, 3)", "nn.Linear(5, 3)"),
    "it is the cross-entropy, of classes": FILE.replace("x[:, :3].argmax(1)", "x[:, :1].round()"),
    "data returns train, or the pair (train, valid)": FILE.replace("return x, ", "return 3, "),
    "make columns of text or dates numbers": FILE.replace(
        "return x, ", "return x.numpy().astype(str), "
    ),
    "such as y[:, None]": FILE.replace("x[:, :3].argmax(1)", "x[:, 0]").replace(
        "nn.Linear(4, 3)", "nn.Linear(4, 1)"
    )
    + "\nloss = nn.functional.mse_loss\n",
    "80 inputs and 3 targets": FILE.replace("return x, x[:, :3]", "return x, x[:3]"),
    "loss is a function of (outputs, targets)": FILE + "\nloss = 3\n",
    "return one number, its mean()": FILE + "\nloss = nn.CrossEntropyLoss(reduction='none')\n",
    "has no gradient": FILE + "\ndef loss(o, t):\n    return o.detach().sum()\n",
    "returns float: return a tensor": FILE + "\ndef loss(o, t):\n    return 1.0\n",
    "is nan before any training": FILE + "\ndef loss(o, t):\n    return o.sum() * float('nan')\n",
    "both loss and training_step": FILE
    + "\nloss = nn.functional.mse_loss\ndef training_step(model, batch):\n    return 1\n",
    "training_step is a function of (model, batch)": FILE + "\ndef training_step(batch): ...\n",
    "metrics['bad'] raises": FILE + "\nmetrics = {'bad': lambda o, t: 1 / 0}\n",
    "needs another name": FILE + "\nmetrics = {'valid_loss': lambda o, t: 1}\n",
    "epochs = 0 is not a count": FILE.replace("epochs, batch_size = 2", "epochs, batch_size = 0"),
    "cannot import": "import nothing_of_that_name\n",
    "choose another batch_size": FILE.replace(
        "nn.Linear(4, 3)", "nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))"
    ).replace("batch_size = 2, 16", "batch_size = 2, 21"),
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_file_is_told_what_to_write_before_any_training(own_file, message):
    name = own_file(BAD[message], f"bad_{list(BAD).index(message)}.py")
    with pytest.raises(StudyError) as said:
        compare(name)
    assert message in str(said.value)
    assert name in str(said.value)
    assert not Path("results", f"compare-{Path(name).stem}").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give one of the two"),
        ({"file": "nothing.py"}, "there is no file nothing.py"),
        ({"file": "nothing"}, "neither a .py file nor a task; choose from"),
        ({"file": "digits-mpl"}, "neither a .py file nor a task; did you mean digits-mlp?"),
        ({"model": network}, "compare() has no data"),
        ({"model": network, "data": points(), "optimizers": ["Untund"]}, "did you mean Untuned"),
    ],
)
def test_a_wrong_call_is_told_what_to_do(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=message.replace("(", r"\(").replace(")", r"\)")):
        compare(**arguments)


def test_the_rival_s_rates_are_extended_beyond_the_edge():
    def rival(lr, *rates):
        return [
            {
                "is_rival": True,
                "lr": lr,
                "rates": [*rates],
                "valid_loss": 1.0,
                "edge": lr in {rates[0], rates[-1]},
            }
        ]

    assert rates_beyond(rival(1e-2, 1e-3, 3e-3, 1e-2)) == [3e-2, 1e-1]
    assert rates_beyond(rival(1e-4, 1e-4, 3e-4)) == [3e-5, 1e-5]
    assert rates_beyond(rival(3e-3, 1e-3, 3e-3, 1e-2)) == []
    assert rates_beyond(rival(9.0, *map(float, range(1, 10)))) == []
    assert rates_beyond([{"is_rival": False}]) == []


@pytest.mark.usefixtures("no_page")
def test_rates_beyond_are_tried_once(tmp_path, monkeypatch):
    """Those at which every run fails are in no table, and would be asked for without end."""
    monkeypatch.setattr(rounds, "rates_beyond", lambda _: [1e-2])
    made = compare(model=network, data=points(), out=tmp_path, seeds=1, epochs=1, rates=(1e-3,))
    assert made.runs["lr"].drop_nulls().sort().to_list() == [1e-3, 1e-2]


def test_a_device_that_is_not_there_is_told_before_any_training(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(StudyError, match="cuda"):
        compare(model=network, data=points(), out=tmp_path, device="cuda")


def test_the_example_runs_from_the_command_line(command, tmp_path):
    shutil.copy(EXAMPLE, tmp_path)
    code, shown, complaint = command(
        "compare", EXAMPLE.name, "--seeds", 1, "--epochs", 1, "--rates", "1e-2"
    )
    assert (code, complaint) == (0, "")
    assert "Untuned ended at" in shown
    page = (tmp_path / "results" / "compare-compare_own_task" / "report.html").read_text()
    assert "Untuned ended at" in page
    assert "errors" in page
