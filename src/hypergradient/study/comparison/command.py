# ruff: noqa: PLC0415  (imports are inside the command, so that --help does not wait for torch)
"""The command ``hypergradient compare``."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from hypergradient.study import completion
from hypergradient.study.commands import say, stop
from hypergradient.study.errors import StudyError
from hypergradient.study.log.services import ServiceName

INTERRUPTED = 130

File = Annotated[
    str,
    typer.Argument(
        help="A Python file that has your model and data (see examples/compare_own_task.py), or "
        "the name of a built-in task.",
        autocompletion=completion.tasks,
    ),
]

Log = Annotated[
    ServiceName | None,
    typer.Option(
        help="Log each run there when it has ended: W&B offline, Trackio on this machine.",
        show_default=False,
    ),
]

Optimizers = Annotated[
    list[str] | None,
    typer.Option(
        "--optimizer",
        help="One more optimizer, as often as you like: a name such as Prodigy or NAdam, or "
        "module:Class; NAME@0.01,0.1 gives its rates.",
        show_default=False,
        autocompletion=completion.optimizers,
    ),
]


def compare_command(
    file: File,
    optimizers: Optimizers = None,
    rates: Annotated[
        str, typer.Option(help="The rates of AdamW, which is tuned over them.")
    ] = "1e-4,3e-4,1e-3,3e-3,1e-2",
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions.")] = 3,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="By default the file's epochs, or 10.", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="By default the file's batch_size, or 64.", show_default=False),
    ] = None,
    weight_decay: Annotated[float, typer.Option(min=0, help="That of all optimizers.")] = 0.01,
    budget: Annotated[
        str | None,
        typer.Option(
            help="A time such as 90s, 10m or 1.5h: measures a few steps, and takes fewer rates, "
            "seeds and epochs so that all fit.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder for the results. By default results/compare-FILE.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes to use. By default one a core.", show_default=False),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="cpu, cuda, mps, or auto for this machine's accelerator if it has one."),
    ] = "cpu",
    live: Annotated[
        bool,
        typer.Option("--live", help="Show the curves as they come, on a page of this machine."),
    ] = False,
    log: Log = None,
) -> None:
    """Compare Untuned, AdamWHD and others with a tuned AdamW, on your own model and data."""
    say("loading torch and the task")
    from hypergradient.study.comparison.compare import compare

    began = time.monotonic()
    try:
        found = compare(
            file,
            optimizers=optimizers or (),
            rates=numbers(rates),
            seeds=seeds,
            epochs=epochs,
            batch_size=batch_size,
            weight_decay=weight_decay,
            budget=budget,
            out=out,
            workers=workers,
            say=say,
            live=live,
            device=device,
            log=log,
        )
    except KeyboardInterrupt:
        stop("interrupted: the same command resumes", INTERRUPTED)
    say(f"\n{found.verdict}\n\n{time.monotonic() - began:.0f} s; page: {found.page}")
    failed = found.runs.filter(found.runs["status"] == "failed").height
    if failed:
        stop(f"{failed} runs failed; their tracebacks are in {found.page.parent / 'runs'}", 1)


def numbers(text: str) -> list[float]:
    """Return the numbers of a list such as "1e-4,1e-3", or raise a ``StudyError``."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or any(not 0 < rate < float("inf") for rate in found):
        raise StudyError(f"--rates {text!r}: write positive numbers such as 1e-4,1e-3,1e-2")
    return found
