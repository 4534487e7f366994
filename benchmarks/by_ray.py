"""The grid by Ray Tune, one core a trial, the data in its object store.

python benchmarks/by_ray.py --out FILE [--runs 42] [--epochs 1] [--processes 2]
"""

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default, which a busy machine would show

import ray
import torch
from by_hand import SETTINGS, Split, options, read, train, write
from ray import tune


def trial(config: dict[str, Any], split: Split, epochs: int) -> None:
    torch.set_num_threads(1)
    train_loss, test_loss = train(split, *SETTINGS[config["setting"]], epochs)
    tune.report({"train_loss": train_loss, "test_loss": test_loss})


def main() -> None:
    chosen = options(__doc__.splitlines()[0])
    split = read(chosen.data_dir)
    here = {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}
    ray.init(
        num_cpus=chosen.processes, include_dashboard=False, log_to_driver=False, runtime_env=here
    )
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_parameters(trial, split=split, epochs=chosen.epochs),
            param_space={"setting": tune.grid_search(list(range(chosen.runs)))},
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
    rows = [
        (*SETTINGS[r.config["setting"]], r.metrics["train_loss"], r.metrics["test_loss"])
        for r in results
        if r.metrics and "test_loss" in r.metrics
    ]
    write(chosen.out, rows)
    ray.shutdown()


if __name__ == "__main__":
    main()
