"""Progress of a study on the screen: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import progress as rich
from rich.markup import escape

from hypergradient.study.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hypergradient.study.run.execute import Progress

PLAIN_LINE_SECONDS = 10


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Give a function that shows progress: a bar on a terminal, else a line now and then."""
    if not sys.stdout.isatty():
        yield plain_lines()
        return
    columns = ("{task.description}", rich.BarColumn(), rich.TimeRemainingColumn(compact=True))
    with rich.Progress(*columns) as bar:
        task = bar.add_task("starting", total=None)

        def show(now: Progress) -> None:
            text = escape(printable("  ".join(filter(None, [runs_text(now), now.latest]))))
            bar.update(task, description=text, total=now.epochs, completed=now.trained)

        yield show


def runs_text(now: Progress) -> str:
    """Return how many of the runs are finished."""
    return f"{now.finished}/{now.runs} runs"


def plain_lines() -> Callable[[Progress], None]:
    """Return a function that prints a line every ten seconds, with an estimate of the time left."""
    began = last = time.monotonic()
    first = None

    def show(now: Progress) -> None:
        nonlocal began, last, first
        first = now.trained if first is None else first
        clock = time.monotonic()
        if now.trained <= first:
            # The workers are starting, which says nothing of their speed, or a run began anew.
            began, first = clock, now.trained
        elif clock - last >= PLAIN_LINE_SECONDS:
            last = clock
            left = (clock - began) * (now.epochs - now.trained) / (now.trained - first)
            parts = [runs_text(now), f"about {left:.0f} s left", now.latest]
            print(printable(", ".join(filter(None, parts))), flush=True)

    return show
