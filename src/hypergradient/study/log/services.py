"""The services that runs can be logged to: how each takes one whole run."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from hypergradient.study.errors import StudyError
from hypergradient.study.extras import install

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


class ServiceName(StrEnum):
    """The services by the names that ``--log`` takes, which are those of their packages."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    trackio = "trackio"


@dataclass(frozen=True)
class RunLog:
    """One run, as a service takes it.

    Attributes:
        id: The run's id.
        name: What a person calls the run.
        folder_name: The same as the name of a folder, with a part of the id.
        project: The study's results folder, by its name.
        config: What the run was declared to be, and how it ended. Values are numbers or text.
        rows: For each epoch the number of updates so far, and its numbers by column.
    """

    id: str
    name: str
    folder_name: str
    project: str
    config: Mapping[str, Any]
    rows: Sequence[tuple[int, Mapping[str, float]]]


def service_named(name: str | None) -> ServiceName | None:
    """Return the service of a name, None of None, and raise a ``StudyError`` of any other."""
    if name is not None and name not in [*ServiceName]:
        raise StudyError(f"log={name!r} is not one of {', '.join(ServiceName)}")
    service = None if name is None else ServiceName(name)
    check_installed(service)
    return service


def check_installed(service: ServiceName | None) -> None:
    """Raise a ``StudyError`` if a service's package is not installed, before any training."""
    if service is not None and find_spec(service.value) is None:
        raise StudyError(f"--log {service.value} needs {service.value}: {install('log')}")


def to_tensorboard(log: RunLog, folder: Path) -> None:
    """Write a run's event file; its folder is there whole or not at all."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (loads torch)

    partial = folder / f".{log.folder_name}.partial"
    target = folder / log.folder_name
    for stale in (partial, target):  # of a process that was killed before it noted the run
        shutil.rmtree(stale, ignore_errors=True)
    with SummaryWriter(str(partial)) as writer:
        for step, numbers in log.rows:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)
        last = dict(log.rows[-1][1]) if log.rows else {}
        writer.add_hparams(
            dict(log.config), {f"last/{k}": v for k, v in last.items()}, run_name="."
        )
    partial.rename(target)


def to_wandb(log: RunLog, folder: Path) -> None:
    """Write a run into W&B's own folder, offline unless the environment's ``WANDB_MODE`` differs.

    The run has the study's id for it there, so that one that is handed over twice is one run.
    """
    import wandb  # noqa: PLC0415  (an extra)

    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True
    )
    with wandb.init(
        project=log.project,
        id=log.id,
        name=log.name,
        group=str(log.config["task"]),
        config=dict(log.config),
        dir=folder.parent,
        mode=os.environ.get("WANDB_MODE", "offline"),
        resume="allow",
        settings=settings,
    ) as run:
        for step, numbers in log.rows:
            run.log(dict(numbers), step=step)


def to_trackio(log: RunLog, folder: Path) -> None:  # noqa: ARG001  (its place is its own)
    """Write a run into Trackio's database on this machine, which ``TRACKIO_DIR`` may place."""
    import trackio  # noqa: PLC0415  (an extra)

    with redirect_stdout(io.StringIO()):  # it tells of every run, in the middle of a progress bar
        run = trackio.init(
            project=log.project,
            name=log.name,
            group=str(log.config["task"]),
            config=dict(log.config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        for step, numbers in log.rows:
            run.log(dict(numbers), step=step)
        trackio.finish()


WRITE: Final[Mapping[ServiceName, Callable[[RunLog, Path], None]]] = {
    ServiceName.tensorboard: to_tensorboard,
    ServiceName.wandb: to_wandb,
    ServiceName.trackio: to_trackio,
}
"""How each service takes a run, given the folder of that service in the results."""


def command_to_look(service: ServiceName, folder: Path, project: str) -> str:
    """Return the command that shows what was logged."""
    return {
        ServiceName.tensorboard: f"tensorboard --logdir {folder}",
        ServiceName.wandb: f"wandb sync {folder}/offline-run-*",
        ServiceName.trackio: f"trackio show --project {project}",
    }[service]
