"""`hypergradient run --log`: what TensorBoard, W&B and Trackio have of a study's runs."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from hypergradient.study.comparison.compare import compare

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # the packages' own, and not ours to heed
]

STUDY = """
title = "Small"
tasks = ["digits-logreg"]
seeds = [0]
epochs = 2
batch_size = 256
weight_decay = 0.0

[[methods]]
names = ["SGD", "SGD-HD"]
grid = { lr = [1e-3, 1e-2] }
"""


def run(folder: Path, service: str, **environment: str) -> pl.DataFrame:
    """Run a study of four runs twice with `--log`, and return its epochs."""
    if find_spec(service) is None:
        pytest.skip(f"{service} is not installed: pip install 'hypergradient[log]'")
    (folder / "small.toml").write_text(STUDY, encoding="utf-8")
    arguments = [sys.executable, "-m", "hypergradient", "run", "small.toml", "--log", service]
    own = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}  # of other tests
    for _ in range(2):
        subprocess.run(arguments, cwd=folder, env=own | environment, check=True)
    return pl.read_parquet(folder / "results/small/epochs.parquet")


def test_tensorboard_has_every_run_with_its_numbers(tmp_path: Path) -> None:
    epochs = run(tmp_path, "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    folders = [path for path in (tmp_path / "results/small/tensorboard").iterdir() if path.is_dir()]
    assert len(folders) == 4
    for folder in folders:
        events = EventAccumulator(str(folder)).Reload()
        own = epochs.filter(pl.col("run_id").str.starts_with(folder.name.rpartition("-")[2]))
        for name in ("train_loss", "valid_accuracy", "lr_mean"):
            scalars = events.Scalars(name)
            assert [event.step for event in scalars] == own["step"].to_list() == [0, 6, 12]
            assert [e.value for e in scalars] == pytest.approx(own[name].to_list(), rel=1e-6)


def test_wandb_has_every_run_offline(tmp_path: Path) -> None:
    epochs = run(tmp_path, "wandb", WANDB_MODE="offline")
    for _ in range(300):  # its own process writes the files, and may take its time
        files = list((tmp_path / "results/small/wandb").rglob("run-*.wandb"))
        if [file.read_bytes().count(b"valid_accuracy") >= 3 for file in files] == [True] * 4:
            break
        time.sleep(0.1)
    ids = {path.stem.removeprefix("run-") for path in files}
    assert ids == set(epochs["run_id"])
    assert len(files) == 4
    for file in files:
        content = file.read_bytes()
        assert content.count(b"valid_accuracy") >= 3
        assert b"digits-logreg" in content


def test_trackio_has_every_run_on_this_machine(tmp_path: Path) -> None:
    place = tmp_path / "trackio"
    epochs = run(tmp_path, "trackio", TRACKIO_DIR=str(place))
    with closing(sqlite3.connect(place / "small.db")) as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics").fetchall()
    assert len(rows) == epochs.height == 12
    logged = sorted((step, json.loads(metrics)["train_loss"]) for _, step, metrics in rows)
    assert logged == sorted(zip(epochs["step"], epochs["train_loss"], strict=True))


def test_a_comparison_of_objects_is_logged_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    import torch  # noqa: PLC0415

    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    found = compare(
        model=lambda: torch.nn.Linear(4, 3),
        data=(x, x[:, :3].argmax(1)),
        epochs=1,
        seeds=1,
        rates=[1e-2],
        out=tmp_path / "out",
        log="tensorboard",
    )
    folders = [path for path in (tmp_path / "out" / "tensorboard").iterdir() if path.is_dir()]
    assert len(folders) == found.runs.height == 3
