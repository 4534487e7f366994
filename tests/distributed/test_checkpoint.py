"""Saved on two ranks, a training goes on with one and with four as if nothing had happened."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from launch import launch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)
from torch.optim.lr_scheduler import LambdaLR
from training import (
    GRANULARITIES,
    WRAPPERS,
    Setting,
    alone,
    batches,
    loss_of,
    network,
    rates_of,
    settings,
    whole,
)

EXACT = 1e-11
SAVED_AFTER = 3  # of 5 steps
FIELDS = ("lr", "scheduled_lr", "learned_scale", "initial_lr", "closed_form_schedule")
SETTINGS = settings()
SOME = 3  # every third setting: each class, and each granularity


class Training:
    """A model, its optimizer and a closed-form scheduler, in mid-training."""

    def __init__(self, setting: Setting, wrapper: str) -> None:
        self.model = network(torch.float64)
        self.call, self.share, make = {**WRAPPERS, "alone": alone}[wrapper](self.model)
        self.optimizer = setting.build(self.model, make)
        self.scheduler = None if wrapper == "ZeRO" else LambdaLR(self.optimizer, lambda t: 0.9**t)

    def run(self, begin: int, end: int) -> None:
        for batch in batches(torch.float64)[begin:end]:
            self.optimizer.zero_grad()
            loss_of(self.call, self.share, batch).backward()
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()

    def state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {
            "model": model,
            "optimizer": optimizer,
            "scheduler": self.scheduler.state_dict(),
        }

    def rates(self) -> list[Tensor]:
        return rates_of(self.optimizer, self.model)

    def fields(self) -> list[list[float]]:
        return [[float(g[name]) for name in FIELDS] for g in self.optimizer.param_groups]

    def numbers(self) -> list[Tensor]:
        return [*self.rates(), *(whole(p) for p in self.model.parameters())]


Known = dict[Setting, tuple[list[list[float]], list[Tensor], list[Tensor]]]


def save(wrapper: str, folder: str) -> Known:
    """Save half-way, and go on: group fields and rates when saved, all numbers at the end."""
    known = {}
    states = {}
    for i, setting in enumerate(SETTINGS):
        training = Training(setting, wrapper)
        training.run(0, SAVED_AFTER)
        states[str(i)] = copy.deepcopy(training.state())
        saved = training.fields(), training.rates()
        training.run(SAVED_AFTER, len(batches(torch.float64)))
        known[setting] = (*saved, training.numbers())
    checkpoint.save(states, checkpoint_id=folder)
    return known


def resume(wrapper: str, folder: str, known: Known, every: int = 1) -> None:
    which = range(0, len(SETTINGS), every)
    trainings = {str(i): Training(SETTINGS[i], wrapper) for i in which}
    states = {i: training.state() for i, training in trainings.items()}
    checkpoint.load(states, checkpoint_id=folder)
    for i, training in trainings.items():
        set_state_dict(
            training.model,
            training.optimizer,
            model_state_dict=states[i]["model"],
            optim_state_dict=states[i]["optimizer"],
        )
        training.scheduler.load_state_dict(states[i]["scheduler"])
        compare(SETTINGS[int(i)], training, known)


def compare(setting: Setting, training: Training, known: Known) -> None:
    fields, rates, end = known[setting]
    assert training.fields() == fields, setting
    for found, wanted in zip(training.rates(), rates, strict=True):
        assert found.dtype == wanted.dtype == torch.float64
        assert torch.equal(found, wanted), setting
    training.run(SAVED_AFTER, len(batches(torch.float64)))
    for found, wanted in zip(training.numbers(), end, strict=True):
        torch.testing.assert_close(found, wanted, rtol=EXACT, atol=EXACT)


def test_from_two_ranks_to_one_and_to_four(tmp_path: Path) -> None:
    known = launch(2, save, "FSDP2", str(tmp_path))[0]
    launch(1, resume, "FSDP2", str(tmp_path), known)
    launch(4, resume, "FSDP2", str(tmp_path), known, SOME)
    launch(2, resume, "DDP", str(tmp_path), known, 5)  # other wrappers read it as well
    launch(1, resume, "alone", str(tmp_path), known, 5)


def other_layouts() -> None:
    """The whole state on each rank or on one, and the flat layout of pipelines."""
    for options in (
        StateDictOptions(full_state_dict=True),
        StateDictOptions(full_state_dict=True, broadcast_from_rank0=True),
        StateDictOptions(flatten_optimizer_state_dict=True),
    ):
        for granularity in GRANULARITIES:
            setting = Setting("AdamHD", granularity, "multiplicative")
            training, fresh = Training(setting, "FSDP2"), Training(setting, "FSDP2")
            training.run(0, SAVED_AFTER)
            state = get_optimizer_state_dict(training.model, training.optimizer, options=options)
            set_optimizer_state_dict(fresh.model, fresh.optimizer, state, options=options)
            assert fresh.fields() == training.fields()
            for found, wanted in zip(fresh.rates(), training.rates(), strict=True):
                assert torch.equal(found, wanted)


def test_whole_and_flat_states() -> None:
    launch(2, other_layouts)


def save_zero(folder: str) -> Known:
    known = {}
    for i, setting in enumerate(SETTINGS):
        training = Training(setting, "ZeRO")
        training.run(0, SAVED_AFTER)
        training.optimizer.consolidate_state_dict(to=0)
        if distributed.get_rank() == 0:
            model = {name: whole(p) for name, p in training.model.state_dict().items()}
            torch.save((model, training.optimizer.state_dict()), f"{folder}/{i}.pt")
        saved = training.fields(), training.rates()
        training.run(SAVED_AFTER, len(batches(torch.float64)))
        known[setting] = (*saved, training.numbers())
    return known


def resume_zero(folder: str, known: Known, wrapper: str, every: int = 1) -> None:
    for i, setting in list(enumerate(SETTINGS))[::every]:
        training = Training(setting, wrapper)
        training.scheduler = None
        model, optimizer = torch.load(f"{folder}/{i}.pt")
        training.model.load_state_dict(model)
        training.optimizer.load_state_dict(optimizer)
        compare(setting, training, known)


def test_zero_from_two_ranks_to_one_and_to_four(tmp_path: Path) -> None:
    known = launch(2, save_zero, str(tmp_path))[0]
    launch(4, resume_zero, str(tmp_path), known, "ZeRO", SOME)
    launch(1, resume_zero, str(tmp_path), known, "alone")


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_making_the_state_of_a_fresh_optimizer_changes_nothing(granularity: str) -> None:
    """`get_optimizer_state_dict` steps at the rate 0 to make states, and puts the old rate back."""
    setting = Setting("AdamWHD", granularity, "multiplicative")
    model, untouched = network(torch.float64), network(torch.float64)
    for options in ({}, {"lr_bounds": (0.01, 1.0)}):
        optimizer = setting.build(model, lambda hd, *a, **k: hd(*a, **k, **options))  # noqa: B023
        fields = [[g[name] for name in FIELDS] for g in optimizer.param_groups]
        state: Any = get_optimizer_state_dict(model, optimizer)
        assert [[g[name] for name in FIELDS] for g in optimizer.param_groups] == fields
        for p, q in zip(model.parameters(), untouched.parameters(), strict=True):
            assert torch.equal(p, q)
        for name, p in model.named_parameters():
            wanted = 0.05 if p.dim() > 1 else 0.03
            for own in (state["state"][name], optimizer.state[p]):
                assert own.get("lr", torch.tensor(wanted)).eq(wanted).all()
        nn.functional.mse_loss(
            model(torch.ones(2, 6).double()), torch.ones(2, 1).double()
        ).backward()
        optimizer.step()
        assert optimizer.lr_summary()["min"] > 0.03 * 0.79  # the rule takes a fifth at most
        model = network(torch.float64)
