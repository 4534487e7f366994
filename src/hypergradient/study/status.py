"""How far a study is, in lines for a person."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypergradient.study.files import DAMAGED
from hypergradient.study.results.write import damaged_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hypergradient.study.declare.run import Run
    from hypergradient.study.declare.study import Study
    from hypergradient.study.run.store import Store


def heading(study: Study) -> str:
    """Return a study's name, with its scale and the time that takes."""
    time = f" ({study.time})" if study.time else ""
    return f"{study.name} at {study.scale} scale{time}" if study.scale else study.name


def state_of(
    study: Study, store: Store, runs: list[Run], conditions: dict[str, str]
) -> Iterator[str]:
    """Yield how far a study is: a line of counts, and one for each thing that a person may act on.

    Args:
        study: The study.
        store: Its results.
        runs: Its runs.
        conditions: The conditions of its runs, from ``Store.conditions``.
    """
    counts = Counter(conditions[one.id] for one in runs)
    shown = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    yield f"{heading(study)}: {len(runs)} runs: {shown}"
    for one in runs:
        if conditions[one.id] == "damaged":
            yield f"damaged: {in_full(one)}: trained anew by the next command"
    yield from under_way(store, [one for one in runs if conditions[one.id] == "training"])
    for table in damaged_tables(store.folder):
        yield f"damaged: {table}: written anew by the next command"
    aside = [*store.quarantined(), *store.folder.glob(f"*{DAMAGED}")]
    if aside:
        yield f"{len(aside)} damaged files were kept aside, such as {aside[0]}"
    if others := len(conditions) - len(runs):
        yield f"{others} runs in the folder are none of the study as it is now; they are not shown"
    versions = store.versions(run for run in runs if conditions[run.id] in {"done", "diverged"})
    if len(versions) > 1:
        yield f"runs were made by several versions of torch: {', '.join(versions)}"
    yield from failures(store, (run for run in runs if conditions[run.id] == "failed"))


SINGLY = 3
"""The most runs of one task under way that have a line each; those of a stack share one."""


def under_way(store: Store, training: Sequence[Run]) -> Iterator[str]:
    """Yield how far the runs are that are being trained: a line each, or one for many of a task."""
    for task in dict.fromkeys(run.task for run in training):
        here = [run for run in training if run.task == task]
        seen = [store.epochs_seen(run) for run in here]
        if len(here) <= SINGLY:
            for run, epochs in zip(here, seen, strict=True):
                yield f"training: {in_full(run)}: {epochs} of {run.epochs} epochs"
            continue
        methods = ", ".join(dict.fromkeys(run.method.rpartition(":")[2] for run in here))
        far = f"{min(seen)} to {max(seen)}" if min(seen) < max(seen) else f"{seen[0]}"
        most = max(run.epochs for run in here)
        yield f"training: {task}: {len(here)} runs of {methods}: {far} of {most} epochs"


def in_full(run: Run) -> str:
    """Return what identifies a run to a person."""
    hyper = "".join(f" {key}={value}" for key, value in run.hyper.items())
    schedule = "" if run.schedule in {"constant", "hypergradient"} else f" {run.schedule}"
    return f"{run.task} {run.method}{schedule}{hyper} seed={run.seed}"


def failures(store: Store, runs: Iterable[Run]) -> Iterator[str]:
    """Yield a line for each run that failed."""
    for run in runs:
        status = store.status(run) or {}
        if status.get("state") == "failed":
            place = store.folder_of(run) / "traceback.txt"
            yield f"failed: {in_full(run)}: {status['error']} (see {place})"
