"""Planning, training, and more rates for the rival where its best is at the edge of those tried."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypergradient.study.commands import check_needs, complain, live_page
from hypergradient.study.comparison.budget import fit, seconds_of
from hypergradient.study.comparison.declaration import RIVAL, to_toml
from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.remembered import remember
from hypergradient.study.files import write_text
from hypergradient.study.log.logger import logging
from hypergradient.study.results.collect import COSTS, collect
from hypergradient.study.results.compare import contest
from hypergradient.study.run.claim import read_json, to_json
from hypergradient.study.run.execute import POLL_SECONDS, execute, look
from hypergradient.study.run.plan import costs, duration, in_words, step_costs
from hypergradient.study.run.progress import progress
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.tasks.registry import IN_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from hypergradient.study.comparison.budget import Size
    from hypergradient.study.comparison.question import Question
    from hypergradient.study.declare.run import Run
    from hypergradient.study.declare.study import Study
    from hypergradient.study.log.services import ServiceName
    from hypergradient.study.run.execute import Progress

MOST_RATES = 9
"""The rates of the rival are extended, where the best is at their edge, to so many at most."""

FILE = "compare.toml"
"""The study's file, in the results folder."""


def train_all(
    question: Question,
    folder: Path,
    say: Callable[[str], None],
    *,
    live: bool = False,
    log: ServiceName | None = None,
) -> Study:
    """Train all that is asked for and not done, and return the study.

    Args:
        question: What is asked.
        folder: The results folder.
        say: Called with lines that say what is done.
        live: Whether to show the curves on a page while runs are trained.
        log: Where to log the runs.
    """
    path, port = folder / FILE, 0
    if not question.is_asked_in(path):
        size = question.size if question.budget is None else planned(question, folder, say)
        write_text(path, to_toml(question.content(size), question.key))
    while True:
        study = load_study(path)
        with live_page(study, Store(folder), port, wanted=live) as port:  # the same each round
            train(study, path, folder, question.workers, say, log)
        rows = contest(collect(study, Store(folder))[0])
        more = rates_beyond(rows) if question.budget is None else []
        more = [rate for rate in more if rate not in rates_of(study)]  # some may have failed
        if not more:
            measure(study, question, folder)
            return study
        beyond = " and ".join(f"{rate:g}" for rate in more)
        say(f"the best {RIVAL} rate is at the edge of those tried: training {beyond} too")
        size = replace(question.size, rates=tuple(sorted({*rates_of(study), *more})))
        write_text(path, to_toml(question.content(size), question.key))


def measure(study: Study, question: Question, folder: Path) -> None:
    """Measure what a step of each method costs, once for a question, when nothing is trained."""
    path = folder / COSTS
    if (read_json(path) or {}).get("key") == question.key:
        return
    methods = step_costs(study.runs(), None)
    write_text(path, to_json({"key": question.key, "methods": methods}))


def rates_of(study: Study) -> tuple[float, ...]:
    """Return the rates of the rival, which is declared first."""
    return tuple(rate for rate in study.methods[0].grid["lr"] if isinstance(rate, float))


def rates_beyond(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the two rates to try next, if the rival's best is the lowest or the highest.

    There are none if the best lies between others, or many were tried.
    """
    rival = next((row for row in rows if row["is_rival"]), None)
    if rival is None or not rival["edge"] or rival["valid_loss"] is None:
        return []
    lowest, room = rival["lr"] == rival["rates"][0], MOST_RATES - len(rival["rates"])
    more: list[float] = []
    for _ in range(min(2, room)):
        more.append(_next_rate(more[-1] if more else rival["lr"], lower=lowest))
    return more


def _next_rate(rate: float, *, lower: bool) -> float:
    """Return the next of 1, 3, 10, ... times a power of ten, or about three times the rate."""
    mantissa = rate / 10 ** math.floor(math.log10(rate))
    times = {1: (10 / 3, 3), 3: (3, 10 / 3)}.get(round(mantissa, 6), (3, 3))
    return float(f"{rate / times[0] if lower else rate * times[1]:.3g}")


def planned(question: Question, folder: Path, say: Callable[[str], None]) -> Size:
    """Measure what a step of each method costs, and return what fits into the budget."""
    asked, budget = question.size, seconds_of(question.budget or "")
    say("measuring a few steps of each optimizer")
    declared = question.content(asked)
    path = folder / f"{FILE}.measured.toml"
    write_text(path, to_toml(declared, "for measuring only"))
    try:
        runs = load_study(path).runs()
    finally:
        path.unlink()
    check_needs(runs, None)
    every = costs(runs, None)
    for cost in every:
        say(f"  {cost.method}: {cost.step_seconds * 1e3:.3g} ms a step")
    counts = {
        entry["names"][0]: None if entry["names"][0] == RIVAL else len(entry["grid"].get("lr", [0]))
        for entry in declared["methods"]
    }
    size = fit(budget, asked, {cost.method: cost for cost in every}, counts, question.workers)
    whole = in_words(duration(every, question.workers))
    if size == asked:
        say(f"all of {asked.text()} fits into {in_words(budget)}: about {whole}")
    else:
        say(f"of {asked.text()}, which takes {whole}, {size.text()} fits into {in_words(budget)}")
    return size


def train(
    study: Study,
    path: Path,
    folder: Path,
    workers: int,
    say: Callable[[str], None],
    log: ServiceName | None,
) -> None:
    """Train the runs that are missing."""
    store, runs = Store(folder), study.runs()
    missing = store.missing(runs)
    check_needs(missing, None)
    if not any(task in IN_PROCESS for task in study.tasks):
        remember(study, path, folder)
    done = len(runs) - len(missing)
    say(f"{len(runs)} runs, {done} of them done, in {folder}")
    with logging(runs, store, log, say, complain) as look, progress() as show:

        def report(now: Progress) -> None:
            show(now)
            look()

        if any(task in IN_PROCESS for task in study.tasks):
            train_here(runs, store, report)
        else:
            execute(runs, store, workers=workers, report=report)


def train_here(runs: Sequence[Run], store: Store, report: Callable[[Progress], None]) -> None:
    """Train runs in this process, where objects that no file names can be used.

    A thread looks at what is written, and reports it.
    """
    missing, over = store.missing(runs), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            report(look(runs, missing, store))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work(missing, store, None)
    finally:
        over.set()
        watcher.join()
