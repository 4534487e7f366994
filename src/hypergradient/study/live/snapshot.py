"""What the live page shows: how far a study is, and the curves of the runs that have begun."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypergradient.study.errors import StudyError
from hypergradient.study.status import heading, in_full

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hypergradient.study.declare.run import Run
    from hypergradient.study.declare.study import Study
    from hypergradient.study.run.store import Store

MOST = 300
"""The most runs whose curves are shown: those under way, and the last that have ended."""

COLUMNS = ("epoch", "step", "train_loss", "valid_loss", "lr_mean")


class Watched:
    """A study that is looked at again and again. What does not change is read once.

    Args:
        study: The study.
        store: Its results. Nothing is written there.
    """

    def __init__(self, study: Study, store: Store) -> None:
        self.study, self.store = study, store
        self.runs = study.runs()
        self.ended: dict[str, dict[str, Any]] = {}

    def snapshot(self) -> dict[str, Any]:
        """Return what the page's script takes, ready for JSON."""
        begun = self.store.begun()
        shown = [self._look(run) for run in self.runs if run.id in begun]
        counts = {"done": 0, "diverged": 0, "failed": 0, "training": 0, "waiting": 0}
        for one in shown:
            counts[one["state"]] += 1
        under_way = [one for one in shown if one["state"] == "training"]
        others = [one for one in shown if one["state"] not in {"training", "waiting"}]
        epochs = sum(run.epochs for run in self.runs)
        # A run that ended before its last epoch has no more to come.
        trained = sum(
            one["of"] if one["id"] in self.ended else max(0, len(one["epoch"]) - 1) for one in shown
        )
        return {
            "title": self.study.title,
            "heading": heading(self.study),
            "runs": len(self.runs),
            "counts": {state: count for state, count in counts.items() if count},
            "epochs": epochs,
            "trained": trained,
            "curves": [*others[-MOST:], *under_way[:MOST]],
        }

    def _look(self, run: Run) -> dict[str, Any]:
        if run.id in self.ended:
            return self.ended[run.id]
        status = self.store.status(run)
        if status is not None and status.get("state") in {"done", "diverged", "failed"}:
            state = str(status["state"])
        else:
            state = "waiting" if self.store.idle(run) else "training"
        one = _identity(run) | {"state": state} | self._columns(run)
        if status is not None:
            self.ended[run.id] = one
        return one

    def _columns(self, run: Run) -> dict[str, list[Any]]:
        records: list[Mapping[str, Any]] = []
        with suppress(StudyError, OSError):
            records = [r for r in self.store.records(run) if isinstance(r, dict)]
        return {name: [record.get(name) for record in records] for name in COLUMNS}


def _identity(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "task": run.task,
        "method": run.method.rpartition(":")[2],
        "name": in_full(run),
        "of": run.epochs,
    }
