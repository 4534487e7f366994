"""One claimed run, trained into the store from its last checkpoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from hypergradient.study.run.checkpoint import read_checkpoint, write_checkpoint
from hypergradient.study.run.claim import Claim, append
from hypergradient.study.run.guard import CHECKPOINT_SECONDS, GUARD_SECONDS, leave_if_alone
from hypergradient.study.run.outcome import outcome
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.evaluate import constant_loss
from hypergradient.study.train.groups import ONE_BY_ONE
from hypergradient.study.train.initial import initial_model, weights_hash
from hypergradient.study.train.training import train

if TYPE_CHECKING:
    from pathlib import Path

    from hypergradient.study.declare.run import Run
    from hypergradient.study.train.training import Training


def train_run(
    run: Run, claim: Claim, data_dir: Path | None, checkpoint_seconds: float = CHECKPOINT_SECONDS
) -> None:
    """Train one claimed run into the store, from its last checkpoint if it has one."""
    torch.set_num_threads(run.threads)
    task = find_task(run.task)
    dataset = task.load(data_dir)
    model = initial_model(run)
    init_hash = weights_hash(model)
    saved = read_checkpoint(claim.checkpoint) or {"records": [], "wall_seconds": 0.0}
    records = list(saved["records"])
    looked = kept = time.perf_counter()
    began = kept - saved["wall_seconds"]

    def after_step(training: Training) -> None:
        nonlocal looked, kept
        now = time.perf_counter()
        if now - kept >= checkpoint_seconds:
            progress = {"records": records, "wall_seconds": now - began}
            write_checkpoint(claim.checkpoint, progress | {"training": training.state()})
            claim.got_further()
            kept = time.perf_counter()
        if now - looked >= GUARD_SECONDS:
            looked = now
            leave_if_alone()

    with claim.metrics(records) as metrics:
        for record in train(
            run, model, dataset, saved=saved.get("training"), after_step=after_step
        ):
            records.append(append(metrics, record))
            leave_if_alone()
    found = {"init_hash": init_hash, "constant_loss": constant_loss(run, dataset)}
    claim.finish(outcome(run, records, time.perf_counter() - began, ONE_BY_ONE, found))
