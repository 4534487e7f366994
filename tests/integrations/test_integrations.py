"""Real runs in the places people use optimizers: the examples of docs/integrations.md."""

import csv
import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from hypergradient import Untuned

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # the packages' own, and not ours to heed
]
Example = Callable[..., dict[str, Any]]


def test_timm_groups_train(example: Example) -> None:
    made = example("timm", "timm")
    optimizer = made["optimizer"]
    none, some = optimizer.param_groups
    assert (none["weight_decay"], some["weight_decay"]) == (0.0, 0.05)
    assert all(p.ndim <= 1 for p in none["params"])
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(
        list(made["model"].parameters())
    )
    assert all("exp_avg" in optimizer.state[p] for p in some["params"])


def test_tensorboard_logs_the_rate(example: Example, tmp_path: Path) -> None:
    made = example("tensorboard", "tensorboard", folder=str(tmp_path))
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    events = EventAccumulator(str(tmp_path)).Reload()
    rates = [event.value for event in events.Scalars("lr")]
    assert len(set(rates)) > 10
    assert rates[-1] == pytest.approx(float(made["optimizer"].param_groups[0]["lr"]))


def test_wandb_logs_offline(example: Example, tmp_path: Path) -> None:
    made = example("wandb", "wandb", folder=str(tmp_path))
    (file,) = tmp_path.rglob("run-*.wandb")
    for _ in range(300):  # its own process writes the file, and may take its time
        if file.read_bytes().count(b"lr/median") >= 20:
            break
        time.sleep(0.1)
    assert file.read_bytes().count(b"lr/median") >= 20  # a record a step
    assert made["rates"]["lr/median"] == made["optimizer"].lr_summary()["median"]


def test_trackio_logs_on_this_machine(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read at its first import
    made = example("trackio", "trackio")
    with closing(sqlite3.connect(tmp_path / "rates.db")) as database:
        rows = database.execute("SELECT metrics FROM metrics ORDER BY step").fetchall()
    rates = [json.loads(row)["lr/median"] for (row,) in rows]
    assert len(rates) == 20
    assert rates[-1] == made["optimizer"].lr_summary()["median"]


def test_peft_trains_and_saves_a_lora(example: Example, tmp_path: Path) -> None:
    made = example("peft", "peft", folder=str(tmp_path))
    model, optimizer, x, y = (made[name] for name in ("model", "optimizer", "x", "y"))
    of_a, of_b = (float(group["lr"]) for group in optimizer.param_groups)
    assert of_b == pytest.approx(16 * of_a)
    loss = torch.nn.functional.cross_entropy
    with optimizer.averaged():
        assert torch.allclose(made["loaded"](x), model(x), atol=1e-5)
        assert loss(model(x), y) < loss(made["network"]()(x), y) - 0.3


def test_lightning_monitors_and_resumes(example: Example, tmp_path: Path) -> None:
    made = example("lightning", "lightning", folder=str(tmp_path))
    resumed = made["resumed"].optimizers[0]
    saved = torch.load(made["first"].checkpoint_callback.best_model_path, weights_only=True)
    by_hand = made["Regression"]()
    by_hand.load_state_dict(saved["state_dict"])
    optimizer = by_hand.configure_optimizers()
    optimizer.load_state_dict(saved["optimizer_states"][0])
    rates = []
    for _ in range(2):  # what the resumed run should have done
        for x, y in made["loader"]:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(by_hand.layer(x), y).backward()
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
    assert torch.equal(by_hand.layer.weight, made["resumed_model"].layer.weight)
    assert float(optimizer.param_groups[0]["lr"]) == float(resumed.param_groups[0]["lr"])
    log = Path(made["resumed"].logger.log_dir) / "metrics.csv"
    with log.open(encoding="utf-8") as file:
        monitored = [float(row["lr-AdamHD"]) for row in csv.DictReader(file) if row["lr-AdamHD"]]
    assert monitored == pytest.approx(rates)
    assert len(set(monitored)) == 8


def test_hugging_face_trainer_trains_logs_and_saves(example: Example, tmp_path: Path) -> None:
    made = example("trainer", "transformers", "accelerate", folder=str(tmp_path))
    logged = [row["learning_rate"] for row in made["trainer"].state.log_history if "loss" in row]
    assert len(logged) == 6
    assert len(set(logged)) > 3
    assert made["optimizer"].lr_summary()["median"] == pytest.approx(logged[-1], rel=0.05)
    checkpoint = torch.load(tmp_path / "checkpoint-4" / "optimizer.pt", weights_only=True)
    assert float(checkpoint["param_groups"][0]["lr"]) in [pytest.approx(lr) for lr in logged]
    made["trainer"].train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_accelerate_accumulates(example: Example) -> None:
    made = example("accelerate", "accelerate")
    state = made["plain"].state[next(iter(made["plain"].state))]
    assert state["step"] == 5 * 4 / 2
    assert float(made["optimizer"].param_groups[0]["lr"]) > 1.1e-3


def average_of(optimizer: Untuned, p: torch.Tensor) -> torch.Tensor:
    """Return x, whichever of x and y the parameter holds."""
    with optimizer.averaged():
        return p.detach().clone()


def test_lightning_validates_saves_and_resumes_the_average(
    example: Example, tmp_path: Path
) -> None:
    made = example("lightning-average", "lightning", folder=str(tmp_path))
    saved = torch.load(made["path"], weights_only=True)
    optimizer = made["first"].optimizers[0]
    assert torch.equal(saved["state_dict"]["layer.weight"], made["model"].layer.weight)
    assert not saved["optimizer_states"][0]["param_groups"][0]["training"]
    again = made["Regression"]()
    again.load_state_dict(saved["state_dict"])
    loss = torch.nn.functional.mse_loss(again.layer(made["x"]), made["x"].sum(1, keepdim=True))
    assert loss.item() == pytest.approx(
        float(made["first"].callback_metrics["validation"]), rel=0.1
    )
    resumed = made["resumed"].optimizers[0]
    assert float(resumed.param_groups[0]["average_step"]) == 160
    assert float(optimizer.param_groups[0]["average_step"]) == 80
    assert float(made["resumed"].callback_metrics["validation"]) < 0.1 * loss.item()


def test_the_trainer_saves_and_resumes_the_average(example: Example, tmp_path: Path) -> None:
    made = example("trainer-average", "transformers", "accelerate", folder=str(tmp_path))
    from safetensors.torch import load_file  # noqa: PLC0415

    last = load_file(tmp_path / "checkpoint-6" / "model.safetensors")
    name = "classifier.weight"
    model, optimizer = made["resumed"].model, made["resumed"].optimizer.optimizer
    weight = model.get_parameter(name)
    assert torch.allclose(last[name], average_of(optimizer, weight), atol=1e-6)
    assert float(optimizer.param_groups[0]["average_step"]) == 6
    state = torch.load(tmp_path / "checkpoint-4" / "optimizer.pt", weights_only=True)
    assert not state["param_groups"][0]["training"]
    assert float(optimizer.param_groups[0]["lr"]) == 0  # the default linear schedule has ended
    assert 0 < float(optimizer.param_groups[0]["learned_scale"]) < 1


def test_accelerate_saves_the_average(example: Example, tmp_path: Path) -> None:
    made = example("accelerate-average", "accelerate", folder=str(tmp_path))
    from safetensors.torch import load_file  # noqa: PLC0415

    saved = load_file(tmp_path / "model.safetensors")
    weight = made["model"].weight
    assert torch.allclose(saved["weight"], average_of(made["plain"], weight), atol=1e-7)
    assert not torch.equal(saved["weight"], weight)


def test_a_scheduler_of_timm_scales_the_learned_rate(example: Example) -> None:
    made = example("timm-average", "timm")
    group = made["optimizer"].param_groups[0]
    with made["optimizer"].averaged():
        loss = torch.nn.functional.mse_loss(
            made["model"](made["x"]), made["x"].sum(1, keepdim=True)
        )
    assert loss.item() < 1e-2
    assert float(group["learned_scale"]) < 1


def test_kohyas_scripts_know_a_subclass_by_its_name() -> None:
    class UntunedScheduleFree(Untuned):
        pass

    optimizer = UntunedScheduleFree([torch.nn.Parameter(torch.ones(2))])
    assert optimizer.__class__.__name__.lower().endswith("schedulefree")
    optimizer.eval()
    optimizer.train()


def test_lightning_needs_no_callback_where_each_step_has_a_closure(
    example: Example, tmp_path: Path
) -> None:
    made = example("lightning-closure", "lightning", folder=str(tmp_path))
    trainer, weight = made["trainer"], made["model"].layer.weight.detach()
    optimizer = trainer.optimizers[0]
    assert optimizer.param_groups[0]["training"] is False
    assert float(optimizer.param_groups[0]["average_step"]) == 120
    assert (weight - 1).abs().max() < 0.1
    saved = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    assert torch.equal(saved["state_dict"]["layer.weight"], weight)
    again = torch.nn.functional.mse_loss(made["model"].layer(made["x"]), made["x"].sum(1)[:, None])
    assert float(trainer.callback_metrics["validation"]) == pytest.approx(again.item(), rel=1e-3)
