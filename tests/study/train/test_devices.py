"""A run on another device: nothing of its steps is on the CPU, and no step waits for the device.

The device here is "meta". Its tensors have no numbers: whoever reads one back, or mixes it with a
tensor of the CPU, raises. torch's own kernels of SGD and Adam do not work there, and those of this
package for a GPU have tests of their own; here are optimizers that need neither. In `elsewhere`
tensors of "meta" do have numbers, and whole runs are compared with those of the CPU.
"""

import os
from typing import Any

import numpy as np
import pytest
import torch

from elsewhere import Device, lend
from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import Run
from hypergradient.study.errors import StudyError
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.devices import (
    prepare,
    random_numbers,
    random_state,
    resolve,
    seeded,
)
from hypergradient.study.train.ensemble import Ensemble
from hypergradient.study.train.start import start_session
from hypergradient.study.train.training import Training

METHODS = {
    "Untuned": {},
    "Untuned-SGD": {},
    "hypergradient:Hypergradient": {"base": "lion", "lr": 0.1, "rule": "relative"},
}


def run_of(task, method, **options):
    fields = {"seed": 0, "study_seed": 0, "epochs": 2, "batch_size": 4, "weight_decay": 0.0}
    return Run(task=task, method=method, hyper=METHODS[method], **fields, **options)


def elsewhere(run):
    return run.model_copy(update={"device": "meta"})


def images(*shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, *shape)).astype(np.float32), rng.integers(0, 10, 12)
    return Data(x, y, x[:4], y[:4])


def everything(session):
    for name, value in vars(session).items():
        if isinstance(value, torch.Tensor) and name != "dropout":
            yield name, value


@pytest.mark.parametrize("method", METHODS)
def test_steps_of_one_run_are_made_on_its_device(method):
    data = images(3, 32, 32)
    run = elsewhere(run_of("cifar10-resnet18-narrow", method))
    session = start_session([run], data)
    assert type(session) is Training
    for _ in range(3):
        session.make_step()
    assert {name for name, value in everything(session) if not value.is_meta} == set()
    assert {p.device.type for p in session.model.parameters()} == {"meta"}
    assert session.metrics.rates.is_meta
    assert session.metrics.losses.is_meta


def test_steps_of_an_ensemble_are_made_on_its_device():
    fields = {"seed": 0, "study_seed": 0, "epochs": 2, "batch_size": 4, "weight_decay": 0.0}
    hyper = {"lr": 0.1, "hypergrad_lr": 0.01}
    run = elsewhere(Run(task="digits-mlp", method="SGDN-HD", hyper=hyper, **fields))
    session = start_session([run], images(64))
    assert type(session) is Ensemble
    (group,) = session.optimizer.param_groups
    assert group["lr"].is_meta
    assert group["hypergrad_lr"].is_meta
    session.optimizer.step = lambda: None  # by torch's kernel
    for _ in range(3):
        session.make_step()
    assert {name for name, value in everything(session) if not value.is_meta} == set()
    assert {p.grad.device.type for p in session.parameters} == {"meta"}


WHOLE: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "an average and augmentation": ("cifar10-resnet18-narrow", "Untuned", {}, {}),
    "momentum and batch norms": ("cifar10-resnet18-narrow", "SGDN-HD", {"lr": 0.01}, {}),
    "no stack": ("digits-mlp", "Adam-HD", {"lr": 0.01, "granularity": "tensor"}, {}),
    "stacked": ("digits-mlp", "Adam-HD", {"lr": 0.01, "hypergrad_lr": 1e-4}, {}),
    "stacked base": ("digits-mlp", "SGD", {"lr": 0.1}, {}),
    "scheduled": ("digits-mlp", "AdamW", {"lr": 0.01}, {"schedule": "cosine"}),
    "scheduled average": ("digits-mlp", "Untuned", {}, {"schedule": "cosine"}),
}


def losses_of(run: Run, data: Data, device: Device | None = None) -> list[float]:
    """Both losses of a run's epochs; on a device nothing of a step may wait for it."""
    session = start_session([run], data)
    make = session.make_step

    def strictly() -> None:
        with device.strict():
            make()

    if device is not None:
        session.make_step = strictly
    records = [each.record for each in session.train(lambda _: None)]
    return [loss for each in records for loss in (each.train_loss, each.valid_loss)]


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_run_is_the_same_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task, method, hyper, options = WHOLE[name]
    fields = {"seed": 0, "study_seed": 0, "epochs": 2, "batch_size": 4, "weight_decay": 0.0}
    run = Run(task=task, method=method, hyper=hyper, **fields, **options)
    data = images(64) if task == "digits-mlp" else images(3, 32, 32)
    here = losses_of(run, data)
    lend(monkeypatch)
    with Device(float64=False) as device:
        there = losses_of(elsewhere(run), data, device)
    assert there == pytest.approx(here, rel=1e-4)


OWN = """
import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = torch.randn(24, 5), torch.randint(0, 3, (24,))


def model():
    return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))


def data():
    loader = DataLoader(TensorDataset(x, y), batch_size=6)
    return (loader, loader) if LOADS else ((x, y), (x, y))


def loss(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)


metrics = {"largest": lambda outputs, targets: outputs.max()}
"""


@pytest.mark.parametrize("loads", [True, False])
def test_a_task_of_ones_own_is_the_same_there(loads, tmp_path, monkeypatch):
    path = tmp_path / "own.py"
    path.write_text(OWN.replace("LOADS", str(loads)))
    fields = {"seed": 0, "study_seed": 0, "epochs": 2, "batch_size": 6, "weight_decay": 0.0}
    run = Run(task=str(path), method="Adam-HD", hyper={"lr": 0.01}, **fields)
    data = find_task(run.task).load()
    here = losses_of(run, data)
    lend(monkeypatch)
    with Device(float64=False) as device:
        there = losses_of(elsewhere(run), data, device)
    assert there == pytest.approx(here, rel=1e-4)


def test_a_device_is_part_of_a_run_only_where_it_is_not_the_cpu():
    run = run_of("digits-mlp", "Untuned")
    named = [run_of("digits-mlp", "Untuned", device=device) for device in ("cpu", "cuda", "mps")]
    assert [each.id == run.id for each in named] == [True, False, False]
    assert len({each.derive_seed("batches", 1) for each in named}) == 1


def test_a_gpu_computes_deterministically(monkeypatch):
    asked = []
    monkeypatch.setattr(
        torch, "use_deterministic_algorithms", lambda mode, **options: asked.append((mode, options))
    )
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    prepare(torch.device("cpu"))
    assert asked == []
    prepare(torch.device("cuda"))
    assert asked == [(True, {"warn_only": True})]  # there is not always such an algorithm
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_study_goes_on_another_device(study_file):
    study = load_study(study_file())
    there = study.on("cuda")
    assert {run.device for run in there.runs()} == {"cuda"}
    assert not {run.id for run in study.runs()} & {run.id for run in there.runs()}


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve("auto") == "cpu"
    with pytest.raises(StudyError, match=r"--device cuda: .* finds no such device here, only cpu"):
        resolve("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve("auto") == resolve("cuda") == "cuda"


def test_the_command_takes_a_device(command, study_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    path = study_file()
    code, _, complaint = command("run", path, "--device", "cuda")
    assert code == 2
    assert len(complaint.splitlines()) == 1
    assert "--device cuda" in complaint
    code, shown, _ = command("plan", path, "--device", "auto")
    assert code == 0
    assert "small: 12 runs, 0 of them done" in shown


def test_random_numbers_of_a_run_are_its_own():
    cpu = torch.device("cpu")
    before = random_state(cpu).clone()
    with random_numbers(cpu, seeded(cpu, 3)):
        drawn = torch.rand(2)
    assert torch.equal(random_state(cpu), before)
    assert torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(3)))
